import { expect, it } from 'vitest';
import { SLEEP_EDGES_MS, sleepsSeen, survivalAt, survivalOf, withSleep, type Sleeps } from './sleeps.ts';

function learnt(...sleptMs: number[]): Sleeps {
  return sleptMs.reduce<Sleeps>(withSleep, []);
}

it('knows nothing before the first sleep but that any length is as likely as another', () => {
  const survival = survivalOf([]);
  expect(survival[0]).toBe(1);
  const steps = survival.slice(1).map((share, at) => (survival[at] ?? 0) - share);
  for (const step of steps) expect(step).toBeCloseTo(1 / SLEEP_EDGES_MS.length);
});

it('learns that one never sleeps long, and never quite rules it out', () => {
  const survival = survivalOf(learnt(...Array.from({ length: 300 }, () => 5_000)));
  expect(survivalAt(survival, 3_000)).toBeGreaterThan(0.99);
  expect(survivalAt(survival, 60_000)).toBeLessThan(0.01);
  expect(survivalAt(survival, 60_000)).toBeGreaterThan(0);
});

it('cannot say of twenty sleeps what one in a hundred does', () => {
  expect(survivalAt(survivalOf(learnt(...Array.from({ length: 20 }, () => 5_000))), 60_000)).toBeGreaterThan(0.02);
});

it('forgets how it was used long ago', () => {
  const changed = learnt(...Array.from({ length: 300 }, () => 5_000), ...Array.from({ length: 600 }, () => 3_600_000));
  expect(survivalAt(survivalOf(changed), 60_000)).toBeGreaterThan(0.85);
  expect(sleepsSeen(changed)).toBeLessThan(257);
});

it('counts the shortest and those beyond its last edge', () => {
  const sleeps = learnt(0, 1e15);
  expect([sleeps[0], sleeps.at(-1)]).toEqual([expect.closeTo(0.996, 3), 1]);
  expect(sleeps).toHaveLength(SLEEP_EDGES_MS.length);
});
