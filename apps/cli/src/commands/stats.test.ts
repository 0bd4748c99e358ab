import { expect, it } from 'vitest';
import { inWords } from './stats.ts';

const HOUR_MS = 3_600_000;
const stats = {
  sandboxes: { living: 3, running: 1, asleep: 2 },
  usage: {
    runningMs: HOUR_MS,
    pausedMs: 0,
    leanMs: 0,
    storedMs: 2 * HOUR_MS,
    cpuMs: 1_800_000,
    memoryMibMs: 1_024 * HOUR_MS,
    egressBytes: 2_048,
    diskMibMs: 512 * HOUR_MS,
  },
  wakes: { all: 4_000, lost: 1 },
};

it('names the lost wakes beside all of them', () => {
  const text = inWords(stats, 24);
  expect(text).toMatch(/lost state +1 of 4000 \(0\.0250 %\)/);
  expect(text).toMatch(/running +1\.000 h, asleep in RAM 0\.000 h, paged out 0\.000 h, stored 2\.000 h/);
  expect(text).toMatch(/disk +0\.50 GiB-hours/);
});

it('claims nothing where nothing woke', () => {
  expect(inWords({ ...stats, wakes: { all: 0, lost: 0 } }, 1)).toMatch(/lost state +no wakes, so none/);
});
