/**
 * What wake budgets are worth: a trace of uses (`lib/uses.ts` says where from) is replayed under fixed times to store after, under the chooser that learns, and
 * under an oracle that knows each sleep before it begins. All under the same prices and the same wakes. It touches no stack.
 *
 * The oracle of a p99 stores for the hundredth of the wakes of each sandbox where that saves most, so it cannot be reached: it spends on one sleep what it knows
 * not to need for another.
 */
import { join } from 'node:path';
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import type { WakeBudget } from '@torpor/contracts';
import { allowance, P99_SHARE, planSleep, withSleep, type Sleeps } from '@torpor/policy';
import { atMost, Figures, quantile } from './lib/figures.ts';
import { endOf, replay, sleepsOf, type Sleep, type Tally, type Way } from './lib/replay.ts';
import { makeUses, readUses, writtenUses } from './lib/uses.ts';

const TRACE = join(import.meta.dirname, 'traces', 'uses.csv');
const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    trace: { type: 'string', default: TRACE },
    /** Makes the trace anew instead. */
    make: { type: 'boolean', default: false },
  },
});
if (values.make) {
  await writeFile(values.trace, writtenUses(makeUses(4)));
  process.exit();
}

const DAYS = 14;
/** Fewer wakes tell nothing of one in a hundred. */
const WAKES_MIN = 200;
const MINUTE_MS = 60_000;
const sandboxes = (await readUses(values.trace)).map((used) => ({ ...used, sleeps: sleepsOf(used) }));
const figures = new Figures('budget');
const wakes = sandboxes.reduce((sum, { sleeps }) => sum + sleeps.length, 0);
figures.note(
  `${sandboxes.length} sandboxes over ${DAYS} days, ${wakes} sleeps; prices are the defaults of packages/policy, in millionths of their currency`,
);

const fixed = new Map<string, Total>();
for (const [name, afterMs] of [
  ['never', undefined],
  ['at once', 0],
  ['after 1 min', MINUTE_MS],
  ['after 15 min', 15 * MINUTE_MS],
  ['after 1 h (no budget)', 60 * MINUTE_MS],
] as const) {
  const steps = afterMs === undefined ? [] : [{ tier: 'stored' as const, afterMs }];
  const total = totalOf(() => ({ steps: () => steps, woke: () => {} }));
  fixed.set(name, total);
  tell(`stored ${name}`, total);
}
compare('cheapest', { kind: 'cheapest' });
compare('p99 ≤ 25 ms', { kind: 'p99', ms: 25 });
compare('p99 ≤ 250 ms', { kind: 'p99', ms: 250 });
compare('p99 ≤ 1 s', { kind: 'p99', ms: 1_000 });
comparePagingOut('p99 ≤ 25 ms', { kind: 'p99', ms: 25 });
figures.report(values.json);

interface Total {
  readonly cost: number;
  readonly wakesMs: readonly number[];
  /** Of each sandbox with enough wakes. */
  readonly perSandbox: readonly (readonly number[])[];
}

function totalOf(wayOf: () => Way, pagesOut = false): Total {
  return sumOf(sandboxes.map((used) => replay(used, used.sleeps, wayOf(), pagesOut)));
}

function sumOf(tallies: readonly Tally[]): Total {
  return {
    cost: tallies.reduce((sum, { cost }) => sum + cost, 0),
    wakesMs: tallies.flatMap(({ wakesMs }) => wakesMs),
    perSandbox: tallies.map(({ wakesMs }) => wakesMs).filter((all) => all.length >= WAKES_MIN),
  };
}

function tell(name: string, { cost, wakesMs }: Total): void {
  figures.add(`${name}: cost`, { value: (cost * 1e6) / sandboxes.length / DAYS, unit: 'µ/sandbox·day' });
  figures.add(`${name}: wake p99`, { value: quantile(wakesMs, 0.99), unit: 'ms' });
}

/** Beside the cheapest of the fixed times that keep the budget for every sandbox, and the oracle. */
function compare(name: string, budget: WakeBudget): void {
  const total = totalOf(() => adaptive(budget));
  const oracle = sumOf(sandboxes.map(({ ramMib, sleeps }) => knowing(budget, ramMib, sleeps)));
  tell(name, total);
  const keeping = [...fixed].filter(([, one]) => worstShare(one, budget) <= P99_SHARE);
  const [bestName, best] = keeping.toSorted(([, a], [, b]) => a.cost - b.cost)[0] ?? [];
  const standard = fixed.get('after 1 h (no budget)');
  if (standard) figures.add(`${name}: cost / stored after 1 h`, { value: total.cost / standard.cost, unit: '×' });
  if (best)
    figures.add(`${name}: cost / best fixed that keeps it (${bestName})`, {
      value: total.cost / best.cost,
      unit: '×',
      goal: atMost(1),
    });
  figures.add(`${name}: cost / oracle`, { value: total.cost / oracle.cost, unit: '×' });
  if (budget.kind === 'p99') {
    figures.add(`${name}: worst share over it, sandboxes with ≥ ${WAKES_MIN} wakes`, {
      value: 100 * worstShare(total, budget),
      unit: '%',
      goal: atMost(100 * P99_SHARE),
    });
  }
}

/** On a host with swap. */
function comparePagingOut(name: string, budget: WakeBudget): void {
  const total = totalOf(() => adaptive(budget), true);
  tell(`with swap: ${name}`, total);
  const standard = fixed.get('never');
  if (standard)
    figures.add(`with swap: ${name}: cost / never stored`, { value: total.cost / standard.cost, unit: '×' });
  figures.add(`with swap: ${name}: worst share over it`, {
    value: 100 * worstShare(total, budget),
    unit: '%',
    goal: atMost(100 * P99_SHARE),
  });
}

function worstShare({ perSandbox }: Total, budget: WakeBudget): number {
  if (budget.kind === 'cheapest') return 0;
  return Math.max(0, ...perSandbox.map((all) => all.filter((ms) => ms > budget.ms).length / all.length));
}

/** As a node-agent does. */
function adaptive(budget: WakeBudget): Way {
  let sleeps: Sleeps = [];
  const spent = { wakes: 0, over: 0 };
  return {
    steps: (known) => planSleep({ ...known, sleeps }, budget, allowance(spent)).steps,
    woke({ sleptMs }, tookMs) {
      sleeps = withSleep(sleeps, sleptMs);
      spent.wakes = spent.wakes * (1 - 1 / 256) + 1;
      spent.over = spent.over * (1 - 1 / 256) + (budget.kind === 'p99' && tookMs > budget.ms ? 1 : 0);
    },
  };
}

/** Without swap. Stores at once or not at all, as is best: where it keeps the budget at no price, and for a hundredth of the others where it saves most. */
function knowing(budget: WakeBudget, ramMib: number, sleeps: readonly Sleep[]): Tally {
  const ends = sleeps.map((sleep) => {
    const shallow = endOf(sleep, ramMib, []);
    const deep = endOf(sleep, ramMib, [{ tier: 'stored', afterMs: 0 }]);
    return { shallow, deep, saves: shallow.cost - deep.cost };
  });
  const breaks = ({ deep }: (typeof ends)[number]) => budget.kind === 'p99' && deep.tookMs > budget.ms;
  const dear = ends.filter((end) => end.saves > 0 && breaks(end)).toSorted((a, b) => b.saves - a.saves);
  const spent = new Set(dear.slice(0, Math.floor(P99_SHARE * sleeps.length)));
  const chosen = ends.map((end) => (end.saves > 0 && (!breaks(end) || spent.has(end)) ? end.deep : end.shallow));
  return { cost: chosen.reduce((sum, { cost }) => sum + cost, 0), wakesMs: chosen.map(({ tookMs }) => tookMs) };
}
