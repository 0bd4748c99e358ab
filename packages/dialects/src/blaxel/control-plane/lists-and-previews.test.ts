import { seededChance } from '@torpor/kernel';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { blaxelList, parseBlaxelListQuery } from './lists.ts';
import {
  offeredPreviewToken,
  parseBlaxelPreview,
  parseBlaxelPreviewToken,
  parsePreviewPath,
  previewHeaders,
  previewId,
  toBlaxelPreview,
  toBlaxelPreviewToken,
} from './previews.ts';
import { parseBlaxelVersion } from './versions.ts';

const NOW = Date.parse('2026-11-22T00:00:00Z');

describe('versions', () => {
  test.each([
    [undefined, '2026-04-16'],
    ['', '2026-04-16'],
    ['2026-04-28', '2026-04-28'],
    ['2026-04-28.preview', '2026-04-28'],
  ])('%s', (header, version) => {
    expect(parseBlaxelVersion(header)).toEqual({ ok: true, value: version });
  });

  test('an unknown one is refused in its own shape', () => {
    expect(parseBlaxelVersion('1999-01-01')).toMatchObject({
      refusal: { status: 400, body: { error: 'invalid_api_version' } },
    });
  });
});

function query(text: string): ReturnType<typeof parseBlaxelListQuery> {
  return parseBlaxelListQuery(new URLSearchParams(text));
}

describe('lists', () => {
  test.each([
    [
      '',
      {
        limit: 50,
        sort: { by: 'createdAt', direction: 'desc' },
        anchor: 'start',
        showTerminated: false,
        matchesNothing: false,
      },
    ],
    ['limit=1&cursor=abc&q=x&externalId=e', { limit: 1, cursor: 'abc', q: 'x', externalId: 'e' }],
    ['limit=9999', { limit: 200 }],
    ['sort=name:asc&anchor=end', { sort: { by: 'name', direction: 'asc' }, anchor: 'end' }],
    ['status=deployed,FAILED', { phases: ['ready', 'failed'] }],
    ['status=TERMINATED', { phases: ['terminated'], showTerminated: true }],
    ['status=ARCHIVED', { phases: ['ready'], statuses: ['ARCHIVED'], matchesNothing: false }],
    ['status=BUILDING', { matchesNothing: true }],
    ['showTerminated=true', { showTerminated: true }],
  ])('%s', (text, value) => {
    expect(query(text)).toMatchObject({ ok: true, value });
  });

  test.each([
    'limit=0',
    'limit=x',
    'limit=-1',
    'sort=size',
    'sort=name:up',
    'status=HAPPY',
    'anchor=middle',
    'showTerminated=x',
    `q=${'x'.repeat(201)}`,
  ])('%s is refused', (text) => {
    expect(query(text)).toMatchObject({ ok: false, refusal: { status: 400, body: { code: 400 } } });
  });

  test('an envelope for the new, an array for the old', () => {
    const page = { items: [1], nextCursor: 'c', total: 2 };
    expect(blaxelList('2026-04-28', page)).toEqual({ data: [1], meta: { hasMore: true, nextCursor: 'c', total: 2 } });
    expect(blaxelList('2026-04-28', { items: [], total: 0 })).toEqual({
      data: [],
      meta: { hasMore: false, nextCursor: '', total: 0 },
    });
    expect(blaxelList('2026-04-16', page)).toEqual([1]);
  });
});

describe('previews', () => {
  const about = { workspace: 'acme', sandbox: 'demo', name: 'p1', extra: {} };

  test('a session of the SDK', () => {
    const parsed = parseBlaxelPreview(
      { metadata: { name: 'session-1' }, spec: { port: 443, public: false, expires: '2026-11-23T00:00:00Z' } },
      { nowMs: NOW },
    );
    expect(parsed).toMatchObject({ value: { port: 443, public: false, expiresAtMs: NOW + 86_400_000 } });
  });

  test('headers, prefix and names are told again and used', () => {
    const spec = {
      port: 3000,
      public: true,
      prefixUrl: 'mine',
      ttl: '1h',
      responseHeaders: { 'Access-Control-Allow-Origin': '*' },
      url: 'x',
    };
    const parsed = parseBlaxelPreview({ metadata: { name: 'p1' }, spec }, { nowMs: NOW });
    if (!parsed.ok) throw new Error('it was refused');
    const id = previewId({ ...about, ...parsed.value }, 'key');
    const stored = { ...parsed.value, id, sandbox: 'demo', createdAtMs: NOW, updatedAtMs: NOW, createdBy: 'me' };
    const shown = toBlaxelPreview(stored, { publicUrl: 'http://t', workspace: 'acme', nowMs: NOW });
    expect(shown).toMatchObject({
      metadata: { name: 'p1', resourceName: 'demo', resourceType: 'sandbox', workspace: 'acme' },
      spec: { ...spec, url: `http://t/preview/${id}` },
      status: 'DEPLOYED',
    });
    expect(id).toMatch(/^mine-[0-9a-f]{20}$/);
    expect(previewHeaders(stored).response).toEqual(spec.responseHeaders);
    expect(toBlaxelPreview(stored, { publicUrl: '', workspace: 'a', nowMs: NOW + 3_600_000 })).toMatchObject({
      status: 'TERMINATED',
    });
  });

  test('an id is the same again, another for every other thing, and another under another key', () => {
    const ids = [about, { ...about, name: 'p2' }, { ...about, sandbox: 'x' }, { ...about, workspace: 'y' }].map(
      (each) => previewId(each, 'key'),
    );
    expect(new Set([...ids, previewId(about, 'other')]).size).toBe(5);
    expect(previewId(about, 'key')).toBe(ids[0]);
  });

  test.each([
    ['no name', {}],
    ['a bad port', { metadata: { name: 'p' }, spec: { port: 0 } }],
    ['a bad prefix', { metadata: { name: 'p' }, spec: { prefixUrl: 'a/b' } }],
    ['a header that breaks lines', { metadata: { name: 'p' }, spec: { responseHeaders: { a: 'b\r\nc: d' } } }],
    ['a header name of none', { metadata: { name: 'p' }, spec: { requestHeaders: { 'a b': 'c' } } }],
    ['a bad ttl', { metadata: { name: 'p' }, spec: { ttl: '1' } }],
    ['text', 'x'],
  ])('%s is refused', (_, body) => {
    expect(parseBlaxelPreview(body, { nowMs: NOW })).toMatchObject({ ok: false, refusal: { status: 400 } });
  });

  test('a PUT takes the name of the path and no other', () => {
    expect(parseBlaxelPreview({ spec: {} }, { nowMs: NOW, name: 'p1' })).toMatchObject({ value: { name: 'p1' } });
    expect(parseBlaxelPreview({ metadata: { name: 'p2' } }, { nowMs: NOW, name: 'p1' })).toMatchObject({ ok: false });
  });

  test.each([
    ['/preview/abc', { id: 'abc', rest: '/' }],
    ['/preview/abc/', { id: 'abc', rest: '/' }],
    ['/preview/abc//x%2Fy?q=1', { id: 'abc', rest: '//x%2Fy?q=1' }],
    ['/preview/abc?q=1', { id: 'abc', rest: '/?q=1' }],
    ['/preview/', undefined],
    ['/preview/A', undefined],
    ['/previews/abc', undefined],
  ])('the way of %s', (path, way) => {
    expect(parsePreviewPath(path)).toEqual(way);
  });

  test('tokens', () => {
    const chance = seededChance(1);
    const parsed = parseBlaxelPreviewToken(
      { metadata: { name: 't' }, spec: { expiresAt: '2026-11-22T00:01:00Z' } },
      { nowMs: NOW, chance },
    );
    if (!parsed.ok) throw new Error('it was refused');
    expect(parsed.value.value).toMatch(/^[a-zA-Z0-9_-]{32}$/);
    const shown = (nowMs: number) =>
      toBlaxelPreviewToken(parsed.value, { workspace: 'acme', sandbox: 'demo', preview: 'p1', nowMs });
    expect(shown(NOW)).toMatchObject({
      metadata: { name: 't', previewName: 'p1' },
      spec: { token: parsed.value.value, expired: false },
    });
    expect(shown(NOW + 60_000)).toMatchObject({ spec: { expired: true } });
    expect(parseBlaxelPreviewToken({ spec: { expiresAt: 'soon' } }, { nowMs: NOW, chance })).toMatchObject({
      ok: false,
    });
    expect(offeredPreviewToken({ 'x-blaxel-preview-token': 'a' }, new URLSearchParams('bl_preview_token=b'))).toBe('a');
    expect(offeredPreviewToken({}, new URLSearchParams('bl_preview_token=b'))).toBe('b');
  });

  test('whatever is sent is parsed or refused', () => {
    fc.assert(
      fc.property(fc.json(), fc.string(), (json, text) => {
        const parsed = [
          parseBlaxelPreview(JSON.parse(json), { nowMs: NOW }),
          parseBlaxelPreview({ metadata: { name: 'p' }, spec: JSON.parse(json) as unknown }, { nowMs: NOW, name: 'p' }),
          parseBlaxelPreviewToken(JSON.parse(json), { nowMs: NOW, chance: seededChance(1) }),
          query(text),
          parseBlaxelVersion(text),
        ];
        expect(parsed.every((each) => each.ok || [400, 501].includes(each.refusal.status))).toBe(true);
        expect(() => parsePreviewPath(`/preview/${text}`)).not.toThrow();
      }),
    );
  });
});
