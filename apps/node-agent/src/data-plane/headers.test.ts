import { describe, expect, it } from 'vitest';
import { DATA_KEY_HEADER } from '@torpor/contracts';
import { carriesKey, passedOn } from './headers.ts';
import { parseTarget } from './target.ts';

describe('an address', () => {
  it.each([
    ['/d/iaaaaaaaaaaa/3/blaxel/filesystem/%2Fetc//x%2Fy?a=%20b', 'blaxel', '/filesystem/%2Fetc//x%2Fy?a=%20b'],
    ['/d/iaaaaaaaaaaa/3/guest/v1/health', 'guest', '/v1/health'],
    ['/d/iaaaaaaaaaaa/3/port/8080', 'port', '/'],
    ['/d/iaaaaaaaaaaa/3/port/8080?x=1', 'port', '/?x=1'],
    ['/d/iaaaaaaaaaaa/3/port/8080//a/../b', 'port', '//a/../b'],
    ['/d/iaaaaaaaaaaa/3/preview/8080/x', 'port', '/x'],
  ])('%s is kept raw', (url, kind, rest) => {
    const target = parseTarget(url);
    expect([target?.part.kind, target?.rest, target?.generation]).toEqual([kind, rest, 3]);
  });

  it.each([
    '/',
    '/d/short/1/blaxel/',
    '/d/iaaaaaaaaaaa/0/blaxel/',
    '/d/iaaaaaaaaaaa/1/blaxelx/',
    '/d/iaaaaaaaaaaa/1/port/0/',
    '/d/iaaaaaaaaaaa/1/port/65536/',
    '/d/iaaaaaaaaaaa/1/port/80a/',
    '/d/..%2f..%2f/1/guest/v1/health',
  ])('%s is none of ours', (url) => {
    expect(parseTarget(url)).toBeUndefined();
  });
});

describe('headers', () => {
  it('pass on as they came, less what concerns this hop and our key', () => {
    const raw = [
      'Host',
      'a.example',
      'X-Two',
      '1',
      'x-two',
      '2',
      'Connection',
      'keep-alive, X-Hop',
      'X-Hop',
      'h',
      'TE',
      'trailers',
      DATA_KEY_HEADER,
      'k',
      'Authorization',
      'Bearer app',
    ];
    expect(passedOn(raw)).toEqual(['Host', 'a.example', 'X-Two', '1', 'x-two', '2', 'Authorization', 'Bearer app']);
  });

  it('that only the node may set are no program’s', () => {
    expect(passedOn(['X-Torpor-Code', 'misdirected', 'x-torpor-state', 'paused', 'ETag', 'e'])).toEqual(['ETag', 'e']);
  });

  it('keep what asks for another protocol when that is what is asked', () => {
    const raw = ['Connection', 'Upgrade', 'Upgrade', 'websocket', 'Keep-Alive', '5'];
    expect(passedOn(raw, { keepUpgrade: true })).toEqual(['Connection', 'Upgrade', 'Upgrade', 'websocket']);
  });

  it('carry the key or do not', () => {
    const key = Buffer.from('sesame');
    expect(carriesKey({ [DATA_KEY_HEADER]: 'sesame' }, key)).toBe(true);
    for (const headers of [
      {},
      { [DATA_KEY_HEADER]: 'sesama' },
      { [DATA_KEY_HEADER]: 'sesame ' },
      { authorization: 'Bearer sesame' },
    ]) {
      expect(carriesKey(headers, key)).toBe(false);
    }
  });
});
