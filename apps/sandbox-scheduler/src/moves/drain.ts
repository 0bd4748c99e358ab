/**
 * Empties nodes that somebody wants empty: what lives there moves, a few at a time, and what can move nowhere is at least put to sleep on the disk. The wish
 * stands in the record, so that it outlives this room; what troubles there were is told while it stands.
 */
import { storeInstance, type NodeId, type SandboxName, type WorkspaceName } from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import type { Holding } from '@torpor/store';
import type { FleetView } from '../fleet/fleet-view.ts';
import type { Parts } from '../parts.ts';
import type { Mover } from './mover.ts';

const AT_ONCE = 2;
const LOOK_MS = 1_000;
/** One that would not move is tried again after this. */
const AGAIN_MS = 15_000;

interface Trouble {
  readonly nodeId: NodeId;
  readonly workspace: WorkspaceName;
  readonly name: SandboxName;
  readonly reason: string;
  readonly atMs: number;
}

export class Drains {
  readonly #parts: Parts;
  readonly #fleet: FleetView;
  readonly #mover: Mover;
  readonly #busy = new Map<string, NodeId>();
  readonly #troubles = new Map<string, Trouble>();

  constructor(parts: Parts, { fleet, mover }: { fleet: FleetView; mover: Mover }) {
    this.#parts = parts;
    this.#fleet = fleet;
    this.#mover = mover;
  }

  async set(nodeId: NodeId, drain: boolean): Promise<void> {
    const { store, clock } = this.#parts;
    if (!(await store.fleet.drain(nodeId, drain ? clock.nowMs() : undefined))) {
      throw new Failure('not_found', `there is no node "${nodeId}"`);
    }
    await this.#fleet.refresh(store);
    this.#forget(nodeId);
  }

  async progress(nodeId: NodeId) {
    const { store } = this.#parts;
    const [holdings, moves, volumes, snapshots] = await Promise.all([
      store.wanted.onNode(nodeId),
      store.moves.open(),
      store.volumes.metered(),
      store.snapshots.keptOn(nodeId),
    ]);
    const troubles = [...this.#troubles.values()].filter((one) => one.nodeId === nodeId);
    return {
      left: holdings.length,
      moving: moves.filter(({ from, cancelled }) => from === nodeId && cancelled === undefined).length,
      troubles: troubles.map(({ workspace, name, reason }) => ({ workspace, name, reason })),
      stays: { volumes: volumes.filter((volume) => volume.nodeId === nodeId).length, snapshots },
    };
  }

  /** Resolves when the room closes. */
  async run(): Promise<void> {
    const { clock, closing, events } = this.#parts;
    while (!closing.aborted) {
      try {
        for (const node of this.#fleet.draining()) await this.#look(node);
      } catch (error) {
        if (!closing.aborted) events.trouble('drain', explain(error));
      }
      await clock.after(LOOK_MS, closing).catch(() => {}); // the loop sees that the room closes
    }
  }

  async #look(nodeId: NodeId): Promise<void> {
    const { store, clock } = this.#parts;
    const isDue = (one: Holding) => {
      const trouble = this.#troubles.get(keyOf(one));
      return !trouble || clock.nowMs() - trouble.atMs >= AGAIN_MS;
    };
    const waiting = (await store.wanted.onNode(nodeId)).filter((one) => one.phase === 'ready' && isDue(one));
    for (const one of waiting) {
      if ([...this.#busy.values()].filter((node) => node === nodeId).length >= AT_ONCE) return;
      if (this.#busy.has(keyOf(one))) continue;
      this.#busy.set(keyOf(one), nodeId);
      void this.#empty(one).finally(() => this.#busy.delete(keyOf(one)));
    }
  }

  async #empty(one: Holding): Promise<void> {
    const { store, clock, closing, wire } = this.#parts;
    const { workspace, name, nodeId, instanceId, generation } = one;
    try {
      const sandbox = await store.wanted.living(workspace, name);
      if (sandbox?.nodeId !== nodeId) return;
      await this.#mover.move(sandbox, undefined, `node "${nodeId}" is drained`);
      this.#troubles.delete(keyOf(one));
    } catch (error) {
      if (closing.aborted) return;
      this.#troubles.set(keyOf(one), { nodeId, workspace, name, reason: explain(error), atMs: clock.nowMs() });
      // Where it can go nowhere it uses no memory, at least until somebody uses it.
      await wire.ask(storeInstance, { instanceId, generation }, { node: nodeId, signal: closing }).catch(() => {});
    }
  }

  #forget(nodeId: NodeId): void {
    for (const [key, trouble] of this.#troubles) if (trouble.nodeId === nodeId) this.#troubles.delete(key);
  }
}

function keyOf({ instanceId, generation }: Holding): string {
  return `${instanceId}/${generation}`;
}
