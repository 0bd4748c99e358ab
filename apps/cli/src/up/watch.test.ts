import { describe, expect, it } from 'vitest';
import { isTooLong, PATIENCE, spellAfter, type Look } from './watch.ts';

const well: Look = { kind: 'well' };
const unwell: Look = { kind: 'unwell', reason: 'it says so' };
const silent: Look = { kind: 'silent', reason: 'no answer' };

describe('a spell', () => {
  it('begins with the first bad look, grows with each, and ends with a good one', () => {
    const first = spellAfter(undefined, silent, { nowMs: 10, othersWell: true });
    const second = spellAfter(first, unwell, { nowMs: 20, othersWell: true });
    expect([first, second]).toEqual([
      { sinceMs: 10, looks: 1 },
      { sinceMs: 10, looks: 2 },
    ]);
    expect(spellAfter(second, well, { nowMs: 30, othersWell: true })).toBeUndefined();
  });

  it('does not count complaints that may be about another service, and silence always', () => {
    const begun = { sinceMs: 10, looks: 3 };
    expect(spellAfter(begun, unwell, { nowMs: 20, othersWell: false })).toBeUndefined();
    expect(spellAfter(begun, silent, { nowMs: 20, othersWell: false })).toEqual({ sinceMs: 10, looks: 4 });
  });

  it.each([
    ['long enough, in looks enough', { sinceMs: 0, looks: 4 }, 30_000, 0, true],
    ['not yet long enough', { sinceMs: 0, looks: 9 }, 29_999, 0, false],
    ['in few looks: the machine stood still', { sinceMs: 0, looks: 2 }, 90_000, 0, false],
    ['of a run that may still be starting', { sinceMs: 0, looks: 9 }, 40_000, 60_000, false],
  ])('is too long: %s', (_, spell, nowMs, leastMs, expected) => {
    expect(isTooLong(spell, PATIENCE, { nowMs, leastMs })).toBe(expected);
  });
});
