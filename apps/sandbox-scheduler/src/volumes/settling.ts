/** Volumes that a scheduler left half done when it died, or that a node could not serve at the time: looked for by their rows alone, and done. */
import type { Volume } from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import type { FleetView } from '../fleet/fleet-view.ts';
import { isSilence, Lanes, type Heard } from '../fleet/lanes.ts';
import type { Parts } from '../parts.ts';
import type { Volumes } from './volumes.ts';

export class VolumeSettling {
  readonly #parts: Parts;
  readonly #around: { readonly fleet: FleetView; readonly volumes: Volumes };
  readonly #lanes: Lanes;

  constructor(parts: Parts, around: { fleet: FleetView; volumes: Volumes }) {
    this.#parts = parts;
    this.#around = around;
    this.#lanes = new Lanes(parts.closing, (error) => parts.events.trouble('volumes', explain(error)));
  }

  /** One look at all of them; what nodes must be asked for goes on behind it. */
  async once(): Promise<void> {
    const { store, clock, times } = this.#parts;
    const nowMs = clock.nowMs();
    for (const volume of await store.volumes.unsettled(nowMs - times.repairMs)) {
      if (this.#around.volumes.isUnderWay(volume)) continue;
      if (!this.#around.fleet.isAlive(volume.nodeId, nowMs)) continue;
      this.#lanes.add({ ...volume, instanceId: volume.id }, () => this.#settle(volume));
    }
  }

  async #settle(volume: Volume): Promise<Heard> {
    try {
      await this.#bringOn(volume);
    } catch (error) {
      this.#parts.events.volumeTrouble(volume, error); // looked at again
      return isSilence(error) ? 'silent' : 'answered';
    }
    return 'answered';
  }

  async #bringOn(volume: Volume): Promise<void> {
    const { store, clock, times } = this.#parts;
    const { volumes } = this.#around;
    const { phase, attachment } = volume;
    if (attachment) {
      const gone = await store.volumes.release(attachment.instanceId, clock.nowMs());
      if (gone.length > 0) return;
      const sandbox = await store.wanted.living(volume.workspace, attachment.sandbox);
      const isBorn = sandbox?.phase === 'ready' && sandbox.instanceId === attachment.instanceId;
      if (attachment.state === 'detaching') return void (await volumes.take(volume));
      if (attachment.state === 'attaching' && isBorn) return void (await volumes.give(volume, sandbox));
      return; // it comes, or goes, with its sandbox
    }
    if (phase === 'deleting') return await volumes.drop(volume);
    const isStuck = phase === 'creating' && volume.updatedAtMs < clock.nowMs() - times.stuckMs;
    if (isStuck) await store.volumes.beginDelete(volume.id, clock.nowMs()); // nobody was ever told of it
  }
}
