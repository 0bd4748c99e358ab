import { stopInstance, type NodeId } from '@torpor/contracts';
import { explain, withDeadline } from '@torpor/kernel';
import type { Incarnation } from '@torpor/store';
import type { FleetView } from '../fleet/fleet-view.ts';
import type { Parts } from '../parts.ts';

export type ToEnd = Incarnation & { readonly nodeId: NodeId; readonly reason: string };

/** Carries endings out. They are on record before anything here runs, so whatever fails here is found and done by repair. */
export class Endings {
  readonly #parts: Parts;
  readonly #fleet: FleetView;
  readonly #running = new Map<string, Promise<boolean>>();

  constructor(parts: Parts, fleet: FleetView) {
    this.#parts = parts;
    this.#fleet = fleet;
  }

  /** Asks the node to end it and notes that it did; answers whether. Several asks for one incarnation share the work. */
  carryOut(ending: ToEnd): Promise<boolean> {
    const key = `${ending.instanceId}/${ending.generation}`;
    const there = this.#running.get(key);
    if (there) return there;
    const work = this.#end(ending).finally(() => this.#running.delete(key));
    this.#running.set(key, work);
    return work;
  }

  beginInBackground(ending: ToEnd): void {
    void this.carryOut(ending); // it tells its failures, and repair repeats it
  }

  /** Waits as long as a caller should: what is not over then is on record. */
  async carryOutPatiently(ending: ToEnd): Promise<boolean> {
    const { clock, times } = this.#parts;
    if (!this.#fleet.isAlive(ending.nodeId, clock.nowMs())) return false;
    const work = this.carryOut(ending);
    return withDeadline({ name: 'wait for the node to end it', ms: times.stopPatienceMs, clock }, () => work).catch(
      () => false,
    );
  }

  async #end({ instanceId, generation, nodeId, reason }: ToEnd): Promise<boolean> {
    const { wire, store, clock, events, closing } = this.#parts;
    try {
      await wire.ask(stopInstance, { instanceId, generation, reason }, { node: nodeId, signal: closing });
      await store.wanted.ended({ instanceId, generation }, clock.nowMs());
      return true;
    } catch (error) {
      if (!closing.aborted) events.stopFailed({ instanceId, generation, nodeId, reason: explain(error) });
      return false;
    }
  }
}
