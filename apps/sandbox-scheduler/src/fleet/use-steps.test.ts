import { expect, it } from 'vitest';
import { isDueForRecord } from './use-steps.ts';

const BEAT_MS = 2_000;

/** What the record says at each beat of a sandbox that is used at every moment until `untilMs`, and how often it was written. */
function record(more: { idleMs?: number; untilMs: number; forMs: number }) {
  const { idleMs, untilMs, forMs } = more;
  let lastUsedAtMs = 0;
  let writes = 0;
  let behindMs = 0;
  for (let nowMs = BEAT_MS; nowMs <= forMs; nowMs += BEAT_MS) {
    const usedAtMs = Math.min(nowMs, untilMs);
    behindMs = Math.max(behindMs, usedAtMs - lastUsedAtMs); // as a reader finds it just before this beat is heard
    if (!isDueForRecord(usedAtMs, { lastUsedAtMs, expiry: idleMs === undefined ? {} : { idleMs } }, nowMs)) continue;
    lastUsedAtMs = usedAtMs;
    writes++;
  }
  return { lastUsedAtMs, writes, behindMs };
}

it('writes a sandbox in use every ten seconds, not at every beat', () => {
  const { writes, behindMs } = record({ untilMs: Infinity, forMs: 600_000 });
  expect(writes).toBe(60);
  expect(behindMs).toBeLessThanOrEqual(10_000);
});

it('tells the last use of one at rest to the millisecond, and only once', () => {
  expect(record({ untilMs: 3_217, forMs: 600_000 })).toMatchObject({ lastUsedAtMs: 3_217, writes: 1 });
  expect(record({ untilMs: 11_001, forMs: 600_000 })).toMatchObject({ lastUsedAtMs: 11_001, writes: 2 });
});

it.each([15_000, 30_000, 60_000])('never lets one in use look idle for its limit of %i ms', (idleMs) => {
  expect(record({ idleMs, untilMs: Infinity, forMs: 600_000 }).behindMs).toBeLessThan(idleMs / 2);
});

it('writes every later use where the limit is shorter than a beat, and never an older one', () => {
  expect(record({ idleMs: 1_000, untilMs: Infinity, forMs: 60_000 }).writes).toBe(30);
  expect(isDueForRecord(5, { lastUsedAtMs: 5, expiry: { idleMs: 0 } }, 60_000)).toBe(false);
  expect(isDueForRecord(4, { lastUsedAtMs: 5, expiry: {} }, 60_000)).toBe(false);
});
