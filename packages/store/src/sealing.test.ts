import { systemChance } from '@torpor/kernel';
import { expect, it } from 'vitest';
import { aesSealing } from './sealing.ts';

const key = (fill: number) => Buffer.alloc(32, fill).toString('base64');
const place = { workspace: 'main', kind: 'secret', name: 'db' };
const sealing = aesSealing({ key: key(1), chance: systemChance });

it('opens what it sealed, and seals the same text differently each time', () => {
  const [one, two] = [sealing.seal(place, 'pä$$'), sealing.seal(place, 'pä$$')];
  expect(one).not.toBe(two);
  expect([sealing.open(place, one), sealing.open(place, two)]).toEqual(['pä$$', 'pä$$']);
  expect(sealing.open(place, sealing.seal(place, 'x'.repeat(1_000_000)))).toHaveLength(1_000_000);
});

it.each([
  { ...place, workspace: 'other' },
  { ...place, name: 'db2' },
  { ...place, kind: 'env' },
  { workspace: 'mai', kind: 'nsecret', name: 'db' },
])('does not open a value that was moved to $workspace/$kind/$name', (elsewhere) => {
  const sealed = sealing.seal(place, 'text');
  expect(() => sealing.open(elsewhere, sealed)).toThrow(/belongs elsewhere/);
});

it('does not open a value of which one bit was turned, or a piece is missing', () => {
  const [version, id, text = ''] = sealing.seal(place, 'text').split(':');
  const bytes = Buffer.from(text, 'base64');
  for (let at = 0; at < bytes.length; at++) {
    const turned = Buffer.from(bytes);
    turned[at] = (turned[at] ?? 0) ^ 1;
    expect(() => sealing.open(place, `${version}:${id}:${turned.toString('base64')}`)).toThrow(/cannot be opened/);
    expect(() => sealing.open(place, `${version}:${id}:${bytes.subarray(0, at).toString('base64')}`)).toThrow(
      /cannot be opened/,
    );
  }
  for (const odd of ['', 'text', 'tp1::', 'tp2:x:y'])
    expect(() => sealing.open(place, odd)).toThrow(/cannot be opened/);
});

it('opens old values with a key that was replaced, while it is held', () => {
  const old = sealing.seal(place, 'text');
  const rotated = aesSealing({ key: key(2), olderKeys: [key(1)], chance: systemChance });
  expect(rotated.open(place, old)).toBe('text');
  expect(() => aesSealing({ key: key(2), chance: systemChance }).open(place, old)).toThrow(/not held/);
});

it('refuses a key that is not 32 bytes', () => {
  expect(() => aesSealing({ key: 'c2hvcnQ=', chance: systemChance })).toThrow(/32 bytes/);
});
