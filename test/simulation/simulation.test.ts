import { expect, it } from 'vitest';
import { simulate } from './simulate.ts';

/** `TORPOR_SEED=n` plays one seed again; `TORPOR_SEEDS=n` plays so many. */
const [only, many] = [process.env['TORPOR_SEED'], process.env['TORPOR_SEEDS']];
const count = Number(many ?? { full: 150, soak: 2_000 }[process.env['TORPOR_TEST_TIER'] ?? ''] ?? 25);
const seeds = only === undefined ? Array.from({ length: count }, (_, n) => n + 1) : [Number(only)];

/** A seed takes seconds of real time; on a busy machine many more, which says nothing about its promises. */
const timeout = 180_000;

it.each(seeds)('keeps every promise through the bad days of seed %i', { timeout }, async (seed) => {
  const { broken, lines } = await simulate(seed);
  if (broken.length > 0) console.error(`${lines.join('\n')}\n\nplay it again: TORPOR_SEED=${seed}`);
  expect(broken).toEqual([]);
});

it('tells the same story each time a seed is played', { timeout }, async () => {
  const [first, second] = [await simulate(7), await simulate(7)];
  expect(second.lines).toEqual(first.lines);
  expect(first.lines.length).toBeGreaterThan(100);
});
