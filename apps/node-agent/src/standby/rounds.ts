/** Looks whether instances still live. A dead sandbox closes no connection by itself, so whoever streams from it would wait for ever. */
import type { Parts } from '../parts.ts';
import type { Instance } from './instance.ts';

const ROUND_MS = 2_000;
/** Instances that nobody streams from are looked at each so many rounds. */
const QUIET_ROUNDS = 15;

export async function makeRounds(parts: Parts, instances: () => Iterable<Instance>): Promise<void> {
  for (let round = 0; !parts.closing.aborted; round++) {
    await parts.clock.after(ROUND_MS, parts.closing).catch(() => {});
    if (parts.closing.aborted) return;
    for (const instance of instances()) {
      if (!isDue(instance, round)) continue;
      const checked = instance.check();
      // The host answers soon. A guest is its tenant's, and must not keep us from looking at the others.
      if (!instance.asksGuest) await checked;
    }
  }
}

function isDue(instance: Instance, round: number): boolean {
  if (instance.state !== 'running' && instance.state !== 'paused') return false;
  if (instance.isSuspect) return true;
  return (instance.state === 'running' && instance.openStays > 0) || round % QUIET_ROUNDS === QUIET_ROUNDS - 1;
}
