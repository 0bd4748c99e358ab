import { expect, it } from 'vitest';
import { ANSWER, cutter, QUERY, withLength } from './messages.ts';

const query = Buffer.from([0xab, 0xcd, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0x61, 0, 0, 1, 0, 1]);
const twice = Buffer.concat([withLength(query), withLength(query)]);

it.each(Array.from({ length: twice.length }, (_, n) => n + 1))('cuts a stream of pieces of %i bytes', (bytes) => {
  const queriesIn = cutter(QUERY);
  const found: Buffer[] = [];
  for (let from = 0; from < twice.length; from += bytes)
    found.push(...(queriesIn(twice.subarray(from, from + bytes)) ?? []));
  expect(found).toEqual([query, query]);
});

it('knows a foreign stream by its first length or header', () => {
  expect(cutter(QUERY)(Buffer.from('GE'))).toBeUndefined();
  expect(cutter(QUERY)(Buffer.concat([twice, Buffer.from('GE')]))).toBeUndefined();
  expect(cutter(ANSWER)(withLength(query).subarray(0, 13))).toEqual([]);
  expect(cutter(ANSWER)(withLength(query).subarray(0, 14))).toBeUndefined();
});
