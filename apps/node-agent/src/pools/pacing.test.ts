import { expect, it } from 'vitest';
import { refillRestMs, refillYieldMs } from './pacing.ts';

it.each([
  [{ workMs: 200, cpuShare: 0.5, fill: 0.9 }, 200],
  [{ workMs: 200, cpuShare: 0.25, fill: 0.9 }, 600],
  [{ workMs: 200, cpuShare: 0.5, fill: 0.1 }, 0],
  [{ workMs: 200, cpuShare: 1, fill: 0.5 }, 0],
])('rests %o for %d ms', (facts, restMs) => {
  expect(refillRestMs(facts)).toBeCloseTo(restMs);
});

it.each([
  [{ sinceClaimMs: 0, fill: 0.9 }, 250],
  [{ sinceClaimMs: 200, fill: 0.9 }, 50],
  [{ sinceClaimMs: 300, fill: 0.9 }, 0],
  [{ sinceClaimMs: 0, fill: 0.5 }, 0],
])('stands aside %o for %d ms', (facts, yieldMs) => {
  expect(refillYieldMs(facts)).toBe(yieldMs);
});
