import { stopInstance } from '@torpor/contracts';
import { explain, withDeadline } from '@torpor/kernel';
import type { Ending, Incarnation } from '@torpor/store';
import type { FleetView } from '../fleet/fleet-view.ts';
import { isSilence, Lanes, type Heard } from '../fleet/lanes.ts';
import type { Parts } from '../parts.ts';

export type ToEnd = Incarnation & Pick<Ending, 'nodeId' | 'reason' | 'keep'>;

/** `silent`: the node is away. */
type Outcome = 'ended' | 'failed' | 'silent';

/** Carries endings out. They are on record before anything here runs, so whatever fails here is found and done by repair. */
export class Endings {
  readonly #parts: Parts;
  readonly #fleet: FleetView;
  readonly #running = new Map<string, Promise<Outcome>>();
  readonly #lanes: Lanes;

  constructor(parts: Parts, fleet: FleetView) {
    this.#parts = parts;
    this.#fleet = fleet;
    this.#lanes = new Lanes(parts.closing, (error) => parts.events.trouble('endings', explain(error)));
  }

  /** Asks the node to end it and notes that it did. Several asks for one incarnation share the work. */
  #carryOut(ending: ToEnd): Promise<Outcome> {
    const key = `${ending.instanceId}/${ending.generation}`;
    const there = this.#running.get(key);
    if (there) return there;
    const work = this.#end(ending).finally(() => this.#running.delete(key));
    this.#running.set(key, work);
    return work;
  }

  /** It tells its failures, and repair repeats it. */
  beginInBackground(ending: ToEnd, ended?: () => void): void {
    this.#lanes.add(ending, async (): Promise<Heard> => {
      const outcome = await this.#carryOut(ending);
      if (outcome === 'ended') ended?.();
      return outcome === 'silent' ? 'silent' : 'answered';
    });
  }

  /** Waits as long as a caller should: what is not over then is on record. */
  async carryOutPatiently(ending: ToEnd): Promise<boolean> {
    const { clock, times } = this.#parts;
    if (!this.#fleet.isAlive(ending.nodeId, clock.nowMs())) return false;
    const work = this.#carryOut(ending).then((outcome) => outcome === 'ended');
    return withDeadline({ name: 'wait for the node to end it', ms: times.stopPatienceMs, clock }, () => work).catch(
      () => false,
    );
  }

  async #end({ instanceId, generation, nodeId, reason, keep }: ToEnd): Promise<Outcome> {
    const { wire, store, clock, events, closing } = this.#parts;
    try {
      const ask = { instanceId, generation, reason, ...(keep ? { keep: [...keep] } : {}) };
      await wire.ask(stopInstance, ask, { node: nodeId, signal: closing });
      await store.wanted.ended({ instanceId, generation }, clock.nowMs());
      await store.volumes.release(instanceId, clock.nowMs());
      return 'ended';
    } catch (error) {
      if (!closing.aborted) events.stopFailed({ instanceId, generation, nodeId, reason: explain(error) });
      return isSilence(error) ? 'silent' : 'failed';
    }
  }
}
