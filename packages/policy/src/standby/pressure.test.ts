import { expect, it } from 'vitest';
import { pressed, type PressedSleeper } from './pressure.ts';

const one = { lastUsedAtMs: 0, wakeMs: 200, ramMib: 300, isPromised: false };
const order = (all: Readonly<Record<string, Partial<PressedSleeper>>>) =>
  pressed(
    Object.entries(all).map(([name, more]) => ({ name, ...one, ...more })),
    100_000,
  ).map(({ name }) => name);

it('stores first what was used longest ago', () => {
  expect(order({ late: { lastUsedAtMs: 99_000 }, early: { lastUsedAtMs: 10 } })).toEqual(['early', 'late']);
});

it('of those used at the same time, what wakes soonest and what holds most', () => {
  expect(order({ slow: { wakeMs: 900 }, quick: { wakeMs: 100 } })).toEqual(['quick', 'slow']);
  expect(order({ small: { ramMib: 30 }, large: { ramMib: 900 } })).toEqual(['large', 'small']);
});

it('stores last what its wake budget wants in RAM', () => {
  expect(order({ promised: { isPromised: true }, other: { lastUsedAtMs: 99_999 } })).toEqual(['other', 'promised']);
});
