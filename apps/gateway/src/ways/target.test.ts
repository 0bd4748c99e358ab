import { describe, expect, it } from 'vitest';
import { targetOf } from './target.ts';

const box = { kind: 'sandbox', workspace: 'main', name: 'demo' };

describe('targetOf', () => {
  it.each([
    ['/main/sandboxes/demo/filesystem/%2Ftmp%2Fa.txt', { ...box, part: 'blaxel', rest: '/filesystem/%2Ftmp%2Fa.txt' }],
    ['/main/sandboxes/demo/filesystem//tmp/bin.dat', { ...box, part: 'blaxel', rest: '/filesystem//tmp/bin.dat' }],
    [
      '/main/sandboxes/demo/filesystem/../../x?a=%2F&b',
      { ...box, part: 'blaxel', rest: '/filesystem/../../x?a=%2F&b' },
    ],
    ['/main/sandboxes/demo', { ...box, part: 'blaxel', rest: '/' }],
    ['/main/sandboxes/demo?x=1', { ...box, part: 'blaxel', rest: '/?x=1' }],
    ['/main/sandboxes/demo//', { ...box, part: 'blaxel', rest: '//' }],
    ['/main/sandboxes/demo/port/3000', { ...box, part: 'port/3000', rest: '/' }],
    ['/main/sandboxes/demo/port/3000?y=1', { ...box, part: 'port/3000', rest: '/?y=1' }],
    ['/main/sandboxes/demo/port/8080//a%2fb/?q=/v0/', { ...box, part: 'port/8080', rest: '//a%2fb/?q=/v0/' }],
    ['/main/sandboxes/demo/-/v1/health', { ...box, part: 'guest', rest: '/v1/health' }],
    ['/main/sandboxes/demo/v0/sandboxes', { ...box, part: 'blaxel', rest: '/v0/sandboxes' }],
    ['http://host:1/main/sandboxes/demo/process', { ...box, part: 'blaxel', rest: '/process' }],
    ['/v0/sandboxes/demo?limit=1', { kind: 'control', path: '/sandboxes/demo', query: '?limit=1' }],
    ['/api/v0/sandboxes', { kind: 'control', path: '/sandboxes', query: '' }],
    ['/v0', { kind: 'control', path: '/', query: '' }],
    [
      '/preview/abc-1/x//y?bl_preview_token=t',
      { kind: 'preview', id: 'abc-1', path: '/x//y', query: '?bl_preview_token=t' },
    ],
    ['/preview/abc', { kind: 'preview', id: 'abc', path: '/', query: '' }],
    ['/trpc/sandboxes.list?batch=1', { kind: 'rpc', path: 'sandboxes.list' }],
    ['/main/agents/a', { kind: 'missing', what: 'agents' }],
    ['/', { kind: 'absent' }],
    ['/nothing/here', { kind: 'absent' }],
  ])('%s', (url, target) => expect(targetOf(url)).toEqual(target));

  it.each([
    '*',
    'x',
    '/MAIN/sandboxes/demo',
    '/main/sandboxes/a%2Fb/x',
    '/main/sandboxes/',
    '/../sandboxes/demo',
    '/main/sandboxes/demo/port/0',
    '/main/sandboxes/demo/port/65536',
    '/main/sandboxes/demo/port/1e3',
    '/main/sandboxes/demo/port/',
  ])('takes %s for malformed', (url) => expect(targetOf(url).kind).toBe('malformed'));
});
