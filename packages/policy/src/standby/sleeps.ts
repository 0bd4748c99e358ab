/**
 * How long one instance sleeps, as learnt from the sleeps it has had: a histogram over spans that grow by √2, the latest counting most. A *sleep* begins when
 * the instance falls asleep and ends with the wake; the wait of its idle policy before is no part of it.
 *
 * The model: sleeps are drawn independently from one distribution that changes slowly. So it knows how often such an instance comes back after an hour, and
 * nothing of the hour of the day or of what came just before. Before anything is learnt, one supposed sleep is spread evenly over all buckets (any order of
 * magnitude is as likely as another); it never quite goes, so nothing is ever taken for impossible because it has not been seen.
 */

const FIRST_MS = 1_000;
const GROWTH = Math.SQRT2;
/** The longest that is told apart: 1 s × √2^48, about 194 days. */
const BUCKETS = 50;
/** What a sleep counts beside the next one: about the last 256 count. A p99 needs a hundred to be learnt at all. */
const FADES = 1 - 1 / 256;

/** Where the buckets begin, ms: 0, 1 s, 1.4 s, 2 s … The last has no end. */
export const SLEEP_EDGES_MS: readonly number[] = Array.from({ length: BUCKETS }, (_, at) =>
  at === 0 ? 0 : Math.round(FIRST_MS * GROWTH ** (at - 1)),
);

/** Weights of the buckets, in their order; shorter than `SLEEP_EDGES_MS` where nothing that long was seen. */
export type Sleeps = readonly number[];

/** With one more. Rounded, for it is written down. */
export function withSleep(sleeps: Sleeps, sleptMs: number): Sleeps {
  const at = bucketOf(sleptMs);
  const length = Math.max(sleeps.length, at + 1);
  return Array.from({ length }, (_, bucket) => {
    const weight = (sleeps[bucket] ?? 0) * FADES + (bucket === at ? 1 : 0);
    return Math.round(weight * 1e4) / 1e4;
  });
}

/** How many they count as. */
export function sleepsSeen(sleeps: Sleeps): number {
  return sleeps.reduce((sum, weight) => sum + weight, 0);
}

/** The share of sleeps that last at least as long as each edge; the first is 1. */
export function survivalOf(sleeps: Sleeps): readonly number[] {
  const supposed = 1 / BUCKETS;
  const total = 1 + sleepsSeen(sleeps);
  let left = total;
  return SLEEP_EDGES_MS.map((_, at) => {
    const share = left / total;
    left -= supposed + (sleeps[at] ?? 0);
    return Math.max(0, share);
  });
}

/** The share that lasts at least `ms`, straight between two edges; in the last bucket, half of it as much again later. */
export function survivalAt(survival: readonly number[], ms: number): number {
  const at = bucketOf(ms);
  const from = SLEEP_EDGES_MS[at] ?? 0;
  const to = SLEEP_EDGES_MS[at + 1] ?? 2 * from;
  const begins = survival[at] ?? 0;
  const ends = survival[at + 1] ?? 0;
  return begins + (ends - begins) * Math.min(1, (ms - from) / (to - from));
}

function bucketOf(ms: number): number {
  const after = SLEEP_EDGES_MS.findIndex((edge) => edge > ms);
  return after === -1 ? BUCKETS - 1 : Math.max(0, after - 1);
}
