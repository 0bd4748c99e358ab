/** Wake budgets as a person writes and reads them, and what sleeping costs. */
import type { SandboxView } from '@torpor/api';
import type { WakeBudget } from '@torpor/contracts';
import { InvalidArgumentError } from 'commander';
import { inUnits } from './copy-progress.ts';
import { ago } from './table.ts';
import { ms } from './tiers.ts';

export const WAKE_BUDGET = 'what 99 of 100 wakes may take, such as 25ms or 2s; or cheapest';
const BUDGET_MS_MAX = 600_000;

export function wakeBudget(text: string): WakeBudget {
  if (text === 'cheapest') return { kind: 'cheapest' };
  const [, digits, unit] = /^(\d{1,6})(ms|s)$/.exec(text) ?? [];
  const span = Number(digits) * (unit === 's' ? 1_000 : 1);
  if (!(span >= 1 && span <= BUDGET_MS_MAX))
    throw new InvalidArgumentError('expected a span from 1ms to 600s, such as 25ms, or cheapest');
  return { kind: 'p99', ms: span };
}

/** `word` stands for none. (Commander takes a null for an option that was not parsed.) */
export function budgetOrNone(word: string): (text: string) => WakeBudget | 'none' {
  return (text) => (text === word ? 'none' : wakeBudget(text));
}

/** As the API takes it. */
export function orNull(budget: WakeBudget | 'none'): WakeBudget | null {
  return budget === 'none' ? null : budget;
}

export function budgetText(budget: WakeBudget): string {
  return budget.kind === 'cheapest' ? 'cheapest' : `p99 ≤ ${ms(budget.ms)}`;
}

/** Undefined where there is none. */
export function budgetOf({ wakeBudget: own, effectiveBudget, outlook }: SandboxView): string | undefined {
  const budget = own ?? effectiveBudget;
  if (!budget) return undefined;
  const said = `${budgetText(budget)}${own ? '' : ', by its workspace'}`;
  return budget.kind === 'p99' && outlook?.budget ? `${said}; ${howKept(outlook.budget)}` : said;
}

type Kept = NonNullable<NonNullable<SandboxView['outlook']>['budget']>;

function howKept({ wakes, over, expectedOver, isPromised }: Kept): string {
  const measured =
    wakes < 1
      ? 'no wake measured under it yet'
      : `${over / wakes <= 0.01 ? 'kept' : 'not kept'}: ${share(over / wakes)} of the last ${Math.round(wakes)} wakes took longer`;
  const expected = `${share(expectedOver)} will by what was learnt`;
  return `${measured}, ${expected}${isPromised ? '' : ', which is more than it allows: nothing that sleeps wakes sooner'}`;
}

/** A line for each tier: what it costs to sleep there and to wake from there. */
export function tierRows({ outlook }: SandboxView): [name: string, text: string][] {
  return (outlook?.tiers ?? []).map((tier) => {
    const { ramBytes, diskBytes, costPerHour, wakeP50Ms, wakeP99Ms, measured, afterMs } = tier;
    const holds = `${inUnits(ramBytes)} RAM, ${inUnits(diskBytes)} disk, ${cost(costPerHour)} an hour`;
    const wake = `wakes in ${ms(wakeP50Ms)}, p99 ${ms(wakeP99Ms)} (${measured === 0 ? 'supposed' : `${measured} measured`})`;
    const when = afterMs === undefined ? 'not by itself' : afterMs === 0 ? 'at once' : `after ${after(afterMs)} asleep`;
    return [`as ${tier.tier}`, `${holds}; ${wake}; ${when}`];
  });
}

function after(spanMs: number): string {
  return spanMs < 1_000 ? ms(spanMs) : ago(0, spanMs);
}

/** In the currency of the node's prices. */
function cost(perHour: number): string {
  return String(Number(perHour.toPrecision(2)));
}

function share(of: number): string {
  return `${(100 * of).toFixed(of < 0.1 ? 2 : 0)} %`;
}
