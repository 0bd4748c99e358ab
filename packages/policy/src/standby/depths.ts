/**
 * How deep an instance sleeps, and after how long: the choice between what a sleep costs and what its wake may take.
 *
 * There is an ordered list of *depths*, the shallowest first (paused, lean, stored, or any others); each holds less RAM than the one before and takes longer
 * to come back from. A *plan* says after how much sleep each is entered. Against the distribution of the instance's sleeps (`sleeps.ts`) and of its wakes from
 * each depth (`wake-time.ts`) a plan has an expected cost per sleep and an expected share of wakes that take longer than the budget allows. All plans over the
 * edges of the histogram are looked at, and the cheapest of those that keep the budget is taken.
 *
 * The promise `p99 ≤ N ms` is one about wakes: of the wakes of this instance, at most one in a hundred takes longer than N, counting those that wait for a
 * depth that is being entered (a save cannot be cut short). It is not one about requests, most of which meet an instance that is awake. `allowedShare` is
 * less than that hundredth while wakes of late have spent it (`allowance`), which is what holds the promise where the model is wrong. Where no plan
 * keeps it the instance stays as shallow as it can, and the plan says that it is not kept: sleeping less is for its idle policy. A host that runs out of
 * memory stores before its time; that is measured, and not part of the plan.
 */
import type { WakeBudget } from '@torpor/contracts';
import { costOfWork, costPerMs, type Holds, type Prices } from './price.ts';
import { SLEEP_EDGES_MS, survivalAt, survivalOf, type Sleeps } from './sleeps.ts';
import { medianMs, shareOver, type WakeTime } from './wake-time.ts';

export interface Depth<Tier extends string = string> extends Holds {
  readonly tier: Tier;
  /** How long it takes to get there, ms. Whoever comes meanwhile waits for the rest, and then wakes it from where it was. Of the first: no matter. */
  readonly enterMs: number;
  readonly wake: WakeTime;
}

/** The share of wakes that may exceed a p99. */
export const P99_SHARE = 0.01;

export interface Outlook<Tier extends string = string> {
  readonly depths: readonly [Depth<Tier>, ...Depth<Tier>[]];
  readonly sleeps: Sleeps;
  readonly prices: Prices;
}

export interface Plan<Tier extends string = string> {
  /** The deeper depths that are entered, the shallower first, each after so much sleep. */
  readonly steps: readonly { readonly tier: Tier; readonly afterMs: number }[];
  /** Expected, per sleep. */
  readonly cost: number;
  /** The share of wakes that is expected to exceed the budget; 0 of `cheapest`. */
  readonly overShare: number;
  readonly isKept: boolean;
}

/** What a wake may still risk when the hundredth is spent: nothing that was ever seen to be slow. */
const SPENT_SHARE = P99_SHARE / 10;

/**
 * The share that the next wake may risk: `over` of the last `wakes` have exceeded the budget. The hundredth, as long as one that does exceed it would still be
 * one of a hundred, or is the first; so the promise is kept by count but for one wake, and not only on average.
 */
export function allowance({ wakes, over }: { readonly wakes: number; readonly over: number }): number {
  return over === 0 || over + 1 <= P99_SHARE * (wakes + 1) ? P99_SHARE : SPENT_SHARE;
}

export function planSleep<Tier extends string>(
  outlook: Outlook<Tier>,
  budget: WakeBudget,
  allowedShare = P99_SHARE,
): Plan<Tier> {
  const judge = judgeOf(outlook, budget);
  const shallow = outlook.depths.slice(1).map(() => NEVER);
  let [best, bestIs]: [Entries, Pick<Plan, 'cost' | 'overShare'>] = [shallow, judge(shallow)];
  for (const entries of entriesOf(outlook.depths.length - 1)) {
    const is = judge(entries);
    if (is.overShare <= allowedShare && (is.cost < bestIs.cost || bestIs.overShare > allowedShare)) {
      [best, bestIs] = [entries, is];
    }
  }
  return { steps: stepsOf(outlook, best), ...bestIs, isKept: bestIs.overShare <= allowedShare };
}

/** What a plan comes to that somebody else has made; what it does not enter is skipped. `afterMs` counts as the edge before it. */
export function judgeSteps<Tier extends string>(
  outlook: Outlook<Tier>,
  steps: Plan<Tier>['steps'],
  budget: WakeBudget,
): Pick<Plan<Tier>, 'cost' | 'overShare'> {
  const entries: number[] = [];
  for (const { tier } of outlook.depths.slice(1).toReversed()) {
    const step = steps.find((one) => one.tier === tier);
    entries.unshift(step ? SLEEP_EDGES_MS.findLastIndex((edge) => edge <= step.afterMs) : (entries[0] ?? NEVER));
  }
  return judgeOf(outlook, budget)(entries);
}

/** Where on the edges each deeper depth is entered; one that is entered where the next one is, is skipped. */
type Entries = readonly number[];
const NEVER = SLEEP_EDGES_MS.length;

/** All that do not go back. */
function* entriesOf(depths: number, from = 0): Generator<Entries> {
  if (depths === 0) return yield [];
  for (let at = from; at <= NEVER; at++) {
    for (const rest of entriesOf(depths - 1, at)) yield [at, ...rest];
  }
}

function judgeOf<Tier extends string>({ depths, sleeps, prices }: Outlook<Tier>, budget: WakeBudget) {
  const survival = [...survivalOf(sleeps), 0];
  const slept = sleptUpTo(survival);
  const [first, ...deeper] = depths;
  const rate = depths.map((depth) => costPerMs(depth, prices));
  const wakeCost = depths.map(({ wake }) => medianMs(wake) * (costOfWork(1, prices) + (rate[0] ?? 0)));
  const over = depths.map(({ wake }) => (budget.kind === 'p99' ? shareOver(wake, budget.ms) : 0));

  return (entries: Entries): { cost: number; overShare: number } => {
    let cost = 0;
    let overShare = 0;
    /** The depth that it is in, from which edge on. */
    let [at, since] = [0, 0];
    const stay = (until: number) => {
      cost += (rate[at] ?? 0) * ((slept[until] ?? 0) - (slept[since] ?? 0));
      const wakes = (survival[since] ?? 0) - (survival[until] ?? 0);
      cost += wakes * (wakeCost[at] ?? 0);
      overShare += wakes * (over[at] ?? 0);
    };
    for (const [index, depth] of deeper.entries()) {
      const entry = entries[index] ?? NEVER;
      if (entry === NEVER || entry === entries[index + 1]) continue;
      stay(entry);
      const reached = survival[entry] ?? 0;
      cost += reached * depth.enterMs * (costOfWork(1, prices) + (rate[at] ?? 0));
      overShare += stallShare(survival, entry, depth, depths[at] ?? first, budget);
      [at, since] = [index + 1, entry];
    }
    stay(NEVER);
    return { cost, overShare };
  };
}

/** The share of wakes that come so early into the entry of a depth that what they wait for the rest of it breaks the budget. */
function stallShare(
  survival: readonly number[],
  entry: number,
  depth: Depth,
  before: Depth,
  budget: WakeBudget,
): number {
  if (budget.kind === 'cheapest') return 0;
  const tooEarlyMs = Math.min(depth.enterMs, depth.enterMs + medianMs(before.wake) - budget.ms);
  if (tooEarlyMs <= 0) return 0;
  return (survival[entry] ?? 0) - survivalAt(survival, (SLEEP_EDGES_MS[entry] ?? 0) + tooEarlyMs);
}

/** The expected sleep up to each edge, ms: what lies below the curve of survival. */
function sleptUpTo(survival: readonly number[]): readonly number[] {
  let sum = 0;
  const all = [0];
  for (const [at, from] of SLEEP_EDGES_MS.entries()) {
    const to = SLEEP_EDGES_MS[at + 1] ?? 2 * from;
    sum += ((to - from) * ((survival[at] ?? 0) + (survival[at + 1] ?? 0))) / 2;
    all.push(sum);
  }
  return all;
}

function stepsOf<Tier extends string>({ depths }: Outlook<Tier>, entries: Entries): Plan<Tier>['steps'] {
  return depths.slice(1).flatMap(({ tier }, index) => {
    const entry = entries[index] ?? NEVER;
    const afterMs = SLEEP_EDGES_MS[entry];
    return afterMs === undefined || entry === entries[index + 1] ? [] : [{ tier, afterMs }];
  });
}
