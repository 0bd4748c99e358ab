import type { NodeId } from '@torpor/contracts';
import type { Clock } from '@torpor/kernel';
import { isAlive } from '@torpor/policy';
import type { Store } from '@torpor/store';
import { Remembered } from '../ways/remembered.ts';

/** Which nodes the fleet has not heard of for so long that nothing is placed there any more. Rejects when the store does not answer and never has. */
export function openSilentNodes({ store, clock }: { store: Store; clock: Clock }): () => Promise<ReadonlySet<NodeId>> {
  const seen = new Remembered({
    clock,
    read: () => store.fleet.list(),
    freshMs: 1_000,
    lifeMs: 2_000,
    missMs: 0,
    graceMs: 600_000,
    entriesMax: 1,
  });
  return async () => {
    const fleet = (await seen.get('fleet')) ?? [];
    return new Set(fleet.filter((node) => !isAlive(node, clock.nowMs())).map(({ id }) => id));
  };
}
