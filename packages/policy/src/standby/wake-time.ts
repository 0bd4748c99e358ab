/**
 * What wakes of one instance from one tier take, as a distribution: log-normal, for a wake is a product of things that each may be slow, and a p99 cannot be
 * read from twenty measurements. The latest count most; what is supposed beforehand counts as two. Its limits: a second mode (one wake in fifty that waits for
 * a disk) is taken for a wider spread, and one that was not yet measured is not foreseen.
 */

/** Of the natural logarithm of the time in ms. */
export interface WakeTime {
  readonly mean: number;
  readonly spread: number;
}

const FADES = 0.9;
const SUPPOSED_WEIGHT = 2;
/** Wakes that were alike by chance vary more than that. */
const SPREAD_MIN = 0.15;

/** `measuredMs` has the oldest first. */
export function wakeTimeOf(measuredMs: readonly number[], supposed: { medianMs: number; spread: number }): WakeTime {
  const before = Math.log(supposed.medianMs);
  const weighed = measuredMs.map((ms, at) => ({
    log: Math.log(Math.max(ms, 0.01)),
    weight: FADES ** (measuredMs.length - 1 - at),
  }));
  const total = weighed.reduce((sum, { weight }) => sum + weight, SUPPOSED_WEIGHT);
  const mean = weighed.reduce((sum, { log, weight }) => sum + weight * log, SUPPOSED_WEIGHT * before) / total;
  const square = weighed.reduce(
    (sum, { log, weight }) => sum + weight * (log - mean) ** 2,
    SUPPOSED_WEIGHT * (supposed.spread ** 2 + (before - mean) ** 2),
  );
  return { mean, spread: Math.max(SPREAD_MIN, Math.sqrt(square / total)) };
}

/** The share of wakes that take longer. */
export function shareOver({ mean, spread }: WakeTime, ms: number): number {
  return ms <= 0 ? 1 : 1 - normal((Math.log(ms) - mean) / spread);
}

export function medianMs({ mean }: WakeTime): number {
  return Math.exp(mean);
}

/** What 99 in 100 do not exceed. */
export function p99Ms({ mean, spread }: WakeTime): number {
  return Math.exp(mean + 2.326 * spread);
}

/** The normal distribution's share below `z`, to 1e-7 (Abramowitz and Stegun 26.2.17). */
function normal(z: number): number {
  const t = 1 / (1 + 0.2316419 * Math.abs(z));
  const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  const tail =
    density * t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  return z >= 0 ? 1 - tail : tail;
}
