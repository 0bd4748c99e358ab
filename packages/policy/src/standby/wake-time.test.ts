import { expect, it } from 'vitest';
import { medianMs, p99Ms, shareOver, wakeTimeOf } from './wake-time.ts';

const supposed = { medianMs: 200, spread: 0.4 };

it('goes by what is supposed until it has been measured, and then by what was', () => {
  expect(medianMs(wakeTimeOf([], supposed))).toBeCloseTo(200);
  const learnt = wakeTimeOf(
    Array.from({ length: 20 }, () => 50),
    supposed,
  );
  expect(medianMs(learnt)).toBeLessThan(70);
  expect(p99Ms(learnt)).toBeGreaterThan(medianMs(learnt));
});

it('says which share takes longer', () => {
  const time = wakeTimeOf([], supposed);
  expect(shareOver(time, 200)).toBeCloseTo(0.5, 6);
  expect(shareOver(time, p99Ms(time))).toBeCloseTo(0.01, 4);
  expect(shareOver(time, 0)).toBe(1);
  expect(shareOver(time, 1e9)).toBeCloseTo(0, 6);
});

it('takes one slow wake of late for a wider spread', () => {
  const calm = wakeTimeOf([50, 50, 50, 50, 50], supposed);
  const rough = wakeTimeOf([50, 50, 50, 50, 900], supposed);
  expect(shareOver(rough, 500)).toBeGreaterThan(shareOver(calm, 500));
});
