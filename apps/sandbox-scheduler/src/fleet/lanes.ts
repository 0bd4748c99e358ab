import type { NodeId } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';

/** Asks of one node that are under way at the same time. */
const PER_NODE = 4;

interface Lane {
  readonly keys: Set<string>;
  readonly waiting: { readonly key: string; readonly work: () => Promise<Heard> }[];
  workers: number;
}

/** What is done something about, as told from others of its node: an incarnation, or another thing of its kind. */
interface OnNode {
  readonly instanceId: string;
  readonly generation: number;
  readonly nodeId: NodeId;
}

/** Whether the node was there to be asked. */
export type Heard = 'answered' | 'silent';

/**
 * Work in the background that asks nodes: a lane for each, so that a node which does not answer keeps nobody waiting but itself. Everything in here is
 * also on record and found again by the next look, so a lane whose node falls silent is cleared instead of trying it item by item.
 */
export class Lanes {
  readonly #lanes = new Map<NodeId, Lane>();
  readonly #closing: AbortSignal;
  readonly #trouble: (error: unknown) => void;

  /** `trouble` is told of work that threw: it is over, and its lane goes on. */
  constructor(closing: AbortSignal, trouble: (error: unknown) => void) {
    this.#closing = closing;
    this.#trouble = trouble;
  }

  /** Waits for nobody. Work for the same incarnation that has not ended yet stands for this, too. */
  add(who: OnNode, work: () => Promise<Heard>): void {
    const key = `${who.instanceId}/${who.generation}`;
    const lane = this.#lanes.get(who.nodeId) ?? { keys: new Set<string>(), waiting: [], workers: 0 };
    if (lane.keys.has(key)) return;
    this.#lanes.set(who.nodeId, lane);
    lane.keys.add(key);
    lane.waiting.push({ key, work });
    if (lane.workers < PER_NODE) void this.#serve(who.nodeId, lane); // it tells its failures
  }

  async #serve(nodeId: NodeId, lane: Lane): Promise<void> {
    lane.workers++;
    for (let next = lane.waiting.shift(); next && !this.#closing.aborted; next = lane.waiting.shift()) {
      const heard = await next.work().catch((error: unknown) => {
        if (!this.#closing.aborted) this.#trouble(error);
        return 'answered' as const;
      });
      lane.keys.delete(next.key);
      if (heard === 'silent') for (const { key } of lane.waiting.splice(0)) lane.keys.delete(key);
    }
    lane.workers--;
    if (lane.workers === 0) this.#lanes.delete(nodeId);
  }
}

/** Whether an ask failed because its node is away, and not because it refused. */
export function isSilence(error: unknown): boolean {
  return error instanceof Failure && (error.code === 'deadline_exceeded' || error.code === 'unavailable');
}
