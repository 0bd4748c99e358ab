/**
 * Brings what is to what is wanted, again and again, and takes no hints: it looks at the record as a stranger would. Whatever a scheduler left
 * half-done when it died is found here.
 */
import { createSandbox, type Sandbox } from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import type { Endings } from '../changes/endings.ts';
import type { Creation } from '../creation/create.ts';
import type { FleetView } from '../fleet/fleet-view.ts';
import { Lanes } from '../fleet/lanes.ts';
import type { Mover } from '../moves/mover.ts';
import type { Parts } from '../parts.ts';
import type { VolumeSettling } from '../volumes/settling.ts';

interface Around {
  readonly fleet: FleetView;
  readonly creation: Creation;
  readonly endings: Endings;
  readonly mover: Mover;
  readonly settling: VolumeSettling;
}

export class Repair {
  readonly #parts: Parts;
  readonly #around: Around;
  /** Of births: each may take long, and none keeps a look waiting. */
  readonly #lanes: Lanes;
  #sweptAtMs = 0;

  constructor(parts: Parts, around: Around) {
    this.#parts = parts;
    this.#around = around;
    this.#lanes = new Lanes(parts.closing, (error) => parts.events.trouble('interrupted restart', explain(error)));
  }

  /** Resolves when the room closes. */
  async run(): Promise<void> {
    const { clock, closing, times } = this.#parts;
    while (!closing.aborted) {
      await this.once();
      await clock.after(times.repairMs, closing).catch(() => {}); // the loop sees that the room closes
    }
  }

  /** One look at everything; what nodes must be asked for goes on behind it. A part that fails is told and does not keep the others from being looked at. */
  async once(): Promise<void> {
    await this.#attempt('fleet', () => this.#lookAtFleet());
    await this.#attempt('endings', () => this.#carryOutEndings());
    await this.#attempt('stuck creations', () => this.#unstick());
    await this.#attempt('moves', () => this.#around.mover.takeUp());
    await this.#attempt('volumes', () => this.#around.settling.once());
    await this.#attempt('sweep', () => this.#sweep());
  }

  async #attempt(where: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!this.#parts.closing.aborted) this.#parts.events.trouble(where, explain(error));
    }
  }

  async #lookAtFleet(): Promise<void> {
    const { store, clock, events } = this.#parts;
    const { fleet } = this.#around;
    await fleet.refresh(store);
    const nowMs = clock.nowMs();
    events.fleet(fleet.nodes().map(({ id, heardAtMs }) => ({ id, heardAtMs, alive: fleet.isAlive(id, nowMs) })));
  }

  async #carryOutEndings(): Promise<void> {
    const { store, clock, events } = this.#parts;
    const open = await store.wanted.endings({});
    events.openEndings(open.length);
    for (const ending of open) {
      const { instanceId, nodeId } = ending;
      if (!this.#around.fleet.isAlive(nodeId, clock.nowMs())) continue;
      this.#around.endings.beginInBackground(ending, () => events.repaired('instance ended', { instanceId, nodeId }));
    }
  }

  /** Creations that nobody works on any more: one that was never answered goes, one that was is started again. */
  async #unstick(): Promise<void> {
    const { store, clock, times, events } = this.#parts;
    const { creation, endings } = this.#around;
    const nowMs = clock.nowMs();
    for (const { sandbox, wasReady } of await store.wanted.stuckCreating(nowMs - times.stuckMs)) {
      if (creation.isUnderWay(sandbox)) continue;
      if (!wasReady) {
        const reason = 'its creation was interrupted and never answered';
        if (!(await store.wanted.abandon(sandbox, { reason, atMs: nowMs }))) continue;
        events.repaired('stuck create', { workspace: sandbox.workspace, name: sandbox.name });
        endings.beginInBackground({ ...sandbox, reason });
        continue;
      }
      this.#lanes.add(sandbox, async () => {
        await this.#startAgain(sandbox);
        return 'answered';
      });
    }
  }

  async #startAgain(sandbox: Sandbox): Promise<void> {
    const { store, clock, events } = this.#parts;
    const env = await store.wanted.envOf(sandbox);
    if (!env) return; // it has moved on meanwhile
    await this.#around.creation.bring(sandbox, { env, untilMs: clock.monotonicMs() + createSandbox.deadlineMs });
    events.repaired('interrupted restart', { workspace: sandbox.workspace, name: sandbox.name });
  }

  async #sweep(): Promise<void> {
    const { store, clock, times } = this.#parts;
    const nowMs = clock.nowMs();
    if (nowMs - this.#sweptAtMs < times.sweepMs) return;
    await store.wanted.sweep({ nowMs, endedBeforeMs: nowMs - times.endingMemoryMs });
    this.#sweptAtMs = nowMs;
  }
}
