const SHARE = 0.9;
/** What a time counts beside the one that was measured after it. */
const FADES = 0.9;

/**
 * What the next may be expected to take: the time that nine in ten of those measured did not exceed, the latest counting most. It leans towards the slow
 * ones, for a budget is broken by them, and forgets them. `measuredMs` has the oldest first; nothing is predicted from nothing.
 */
export function predictMs(measuredMs: readonly number[]): number | undefined {
  const weighed = measuredMs.map((ms, at) => ({ ms, weight: FADES ** (measuredMs.length - 1 - at) }));
  weighed.sort((a, b) => a.ms - b.ms);
  let missing = SHARE * weighed.reduce((sum, { weight }) => sum + weight, 0);
  for (const { ms, weight } of weighed) {
    missing -= weight;
    if (missing <= 0) return ms;
  }
  return weighed.at(-1)?.ms; // what rounding left missing
}
