/** Below this fill a pool is refilled at twice its share: a burst is under way. */
const LOW = 0.25;

/**
 * How long refilling rests after `workMs` of work, so that it uses at most `cpuShare` of one core. Work is measured as elapsed time, which can only
 * overstate the processor's part: on a busy host it backs off.
 */
export function refillRestMs(facts: { workMs: number; cpuShare: number; fill: number }): number {
  const share = facts.fill < LOW ? Math.min(1, facts.cpuShare * 2) : facts.cpuShare;
  return facts.workMs * (1 / share - 1);
}

/** How long refilling stands aside after a claim: whoever asks for one sandbox often asks for its first command next, and for another. */
const YIELD_MS = 250;
/** Below this fill it does not stand aside. */
const YIELD_ABOVE = 0.5;

export function refillYieldMs(facts: { sinceClaimMs: number; fill: number }): number {
  return facts.fill > YIELD_ABOVE ? Math.max(0, YIELD_MS - facts.sinceClaimMs) : 0;
}
