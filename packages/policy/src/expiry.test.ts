import { describe, expect, test } from 'vitest';
import { expiryOf } from './expiry.ts';

const made = { createdAtMs: 1_000, lastUsedAtMs: 5_000 };

describe('expiryOf', () => {
  test.each([
    ['no limit lives for ever', {}, 1e15, { kind: 'alive' }],
    ['an age counts from the creation', { maxAgeMs: 1_000 }, 1_999, { kind: 'alive', endsAtMs: 2_000 }],
    ['the moment itself is too late', { maxAgeMs: 1_000 }, 2_000, { kind: 'expired', atMs: 2_000, because: 'max age' }],
    ['idleness counts from the last use', { idleMs: 5_000 }, 9_999, { kind: 'alive', endsAtMs: 10_000 }],
    ['idle long enough', { idleMs: 5_000 }, 10_001, { kind: 'expired', atMs: 10_000, because: 'idle' }],
    ['a date', { atMs: 7_000 }, 8_000, { kind: 'expired', atMs: 7_000, because: 'date' }],
    [
      'the first limit wins',
      { atMs: 7_000, idleMs: 1, maxAgeMs: 90_000 },
      8_000,
      { kind: 'expired', atMs: 5_001, because: 'idle' },
    ],
    ['the nearest limit is told', { atMs: 7_000, maxAgeMs: 90_000 }, 6_000, { kind: 'alive', endsAtMs: 7_000 }],
    ['no age at all', { maxAgeMs: 0 }, 1_000, { kind: 'expired', atMs: 1_000, because: 'max age' }],
  ] as const)('%s', (_, expiry, nowMs, life) => {
    expect(expiryOf({ expiry, ...made }, nowMs)).toEqual(life);
  });

  test('a sandbox that was never used is idle since its creation', () => {
    expect(expiryOf({ expiry: { idleMs: 10 }, createdAtMs: 1_000, lastUsedAtMs: 0 }, 1_005)).toEqual({
      kind: 'alive',
      endsAtMs: 1_010,
    });
  });
});
