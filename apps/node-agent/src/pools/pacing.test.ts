import { expect, it } from 'vitest';
import { refillRestMs } from './pacing.ts';

it.each([
  [{ workMs: 200, cpuShare: 0.5, fill: 0.9 }, 200],
  [{ workMs: 200, cpuShare: 0.25, fill: 0.9 }, 600],
  [{ workMs: 200, cpuShare: 0.5, fill: 0.1 }, 0],
  [{ workMs: 200, cpuShare: 1, fill: 0.5 }, 0],
])('rests %o for %d ms', (facts, restMs) => {
  expect(refillRestMs(facts)).toBeCloseTo(restMs);
});
