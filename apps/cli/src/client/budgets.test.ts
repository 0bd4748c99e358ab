import { expect, it } from 'vitest';
import type { SandboxView } from '@torpor/api';
import { budgetOf, budgetOrNone, tierRows, wakeBudget } from './budgets.ts';

it.each([
  ['25ms', { kind: 'p99', ms: 25 }],
  ['2s', { kind: 'p99', ms: 2_000 }],
  ['cheapest', { kind: 'cheapest' }],
])('reads %s', (text, budget) => expect(wakeBudget(text)).toEqual(budget));

it.each(['25', '0ms', '700s', 'cheap', '-1ms', '1.5s'])('does not take %s for a budget', (text) => {
  expect(() => wakeBudget(text)).toThrow(/expected a span from 1ms to 600s/);
});

it('reads the word for none', () => expect(budgetOrNone('workspace')('workspace')).toBe('none'));

const p99 = { kind: 'p99', ms: 25 } as const;

function view(more: Partial<SandboxView>): SandboxView {
  return more as SandboxView; // what is told of a budget goes by these alone
}

it.each([
  [view({}), undefined],
  [view({ wakeBudget: { kind: 'cheapest' } }), 'cheapest'],
  [view({ effectiveBudget: p99 }), 'p99 ≤ 25 ms, by its workspace'],
  [
    view({
      wakeBudget: p99,
      outlook: { tiers: [], budget: { wakes: 200, over: 1, expectedOver: 0.004, isPromised: true } },
    }),
    'p99 ≤ 25 ms; kept: 0.50 % of the last 200 wakes took longer, 0.40 % will by what was learnt',
  ],
  [
    view({
      wakeBudget: p99,
      outlook: { tiers: [], budget: { wakes: 20, over: 4, expectedOver: 0.3, isPromised: false } },
    }),
    'p99 ≤ 25 ms; not kept: 20 % of the last 20 wakes took longer, 30 % will by what was learnt, which is more than it allows: nothing that sleeps wakes sooner',
  ],
])('says how it is kept: %#', (of, said) => expect(budgetOf(of)).toBe(said));

it('says of each tier what it holds, costs and takes', () => {
  const shared = { diskBytes: 100 * 2 ** 20, wakeP50Ms: 200, wakeP99Ms: 410, costPerHour: 0.0000107 };
  const rows = tierRows({
    outlook: {
      tiers: [
        { ...shared, tier: 'paused', ramBytes: 2 ** 30, measured: 7, afterMs: 0 },
        { ...shared, tier: 'stored', ramBytes: 0, measured: 0, afterMs: 90_000 },
      ],
    },
  } as SandboxView); // it goes by the outlook alone
  expect(rows).toEqual([
    ['as paused', '1.0 GiB RAM, 100.0 MiB disk, 0.000011 an hour; wakes in 200 ms, p99 410 ms (7 measured); at once'],
    [
      'as stored',
      '0 bytes RAM, 100.0 MiB disk, 0.000011 an hour; wakes in 200 ms, p99 410 ms (supposed); after 90s asleep',
    ],
  ]);
});
