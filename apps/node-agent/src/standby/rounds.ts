/** Looks whether instances still live. A dead sandbox closes no connection by itself, so whoever streams from it would wait for ever. */
import { Turns } from '@torpor/kernel';
import type { Parts } from '../parts.ts';
import type { Instance } from './instance.ts';

const ROUND_MS = 2_000;
/** Instances that nobody streams from are looked at each so many rounds. */
const QUIET_ROUNDS = 15;
/** A host that says nothing of some keeps us from looking at the others only when these are so many. */
const LOOKS_AT_ONCE = 16;

export async function makeRounds(parts: Parts, instances: () => Iterable<Instance>): Promise<void> {
  const turns = new Turns(LOOKS_AT_ONCE);
  const beingLookedAt = new Set<Instance>();
  for (let round = 0; !parts.closing.aborted; round++) {
    await parts.clock.after(ROUND_MS, parts.closing).catch(() => {});
    if (parts.closing.aborted) return;
    for (const instance of instances()) {
      if (isDue(instance, round) && !beingLookedAt.has(instance)) void look(instance);
    }
  }

  async function look(instance: Instance): Promise<void> {
    beingLookedAt.add(instance);
    // A guest is its tenant's and may take its time, so it takes no turn from anybody.
    if (instance.isSuspect || instance.asksGuest) await instance.check();
    else await turns.run(() => instance.check(), parts.closing).catch(() => {}); // the room closes
    beingLookedAt.delete(instance);
  }
}

function isDue(instance: Instance, round: number): boolean {
  if (instance.state !== 'running' && instance.state !== 'paused' && instance.state !== 'lean') return false;
  if (instance.isSuspect) return true;
  return (instance.state === 'running' && instance.openStays > 0) || round % QUIET_ROUNDS === QUIET_ROUNDS - 1;
}
