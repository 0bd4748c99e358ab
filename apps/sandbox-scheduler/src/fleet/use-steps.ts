/**
 * When a use that a node reports is written into the record. One that is kept awake reports a later use with every beat; it is written in *steps*, so
 * that a fleet in use does not write a row for each of its sandboxes every two seconds. A use that is over is written whole, a step after it at the
 * latest, so what the record says of a sandbox at rest is exact.
 *
 * Whoever judges an idle limit by the record alone (`expiryOf` in a read) may therefore think a sandbox in use idle for as long as a step and a beat: the
 * step of one that has such a limit is a small part of it. The expiry itself asks the node first. When a sandbox falls asleep is its node's affair.
 */
import type { Holding } from '@torpor/store';

const STEP_MS = 10_000;
const STEPS_IN_IDLE_LIMIT = 5;

/** Times are ms since the epoch; `nowMs` is that of the report. A node whose clock is behind by a step or more has every use written, as if there were none. */
export function isDueForRecord(
  usedAtMs: number,
  sandbox: Pick<Holding, 'lastUsedAtMs' | 'expiry'>,
  nowMs: number,
): boolean {
  if (usedAtMs <= sandbox.lastUsedAtMs) return false;
  const stepMs = Math.min(STEP_MS, (sandbox.expiry.idleMs ?? Infinity) / STEPS_IN_IDLE_LIMIT);
  return usedAtMs - sandbox.lastUsedAtMs >= stepMs || nowMs - usedAtMs >= stepMs;
}
