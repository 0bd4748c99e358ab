import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { rehearse, type Rehearsal } from '../rehearsal.ts';

let stage: Rehearsal;
beforeAll(async () => {
  stage = await rehearse();
  await stage.plant('box');
});
afterAll(() => stage.close());
beforeEach(() => {
  stage.seen.length = 0;
  stage.answer = (_request, response) => response.end('from the node');
});

interface Preview {
  metadata: { name: string };
  spec: { url: string; token: string };
}

async function make(path: string, body: unknown): Promise<{ status: number; body: Preview }> {
  const answer = await stage.call(`/v0/sandboxes/box/previews${path}`, { method: 'POST', body: JSON.stringify(body) });
  return { status: answer.status, body: (await answer.json()) as Preview }; // the shape under test; a wrong one fails the assertions
}

function pathOf(preview: Preview): string {
  return preview.spec.url.replace('http://gateway.test', '');
}

describe('a public preview', () => {
  it('is open to anybody, adds its headers, and keeps our key from the program', async () => {
    const { body } = await make('', {
      metadata: { name: 'open' },
      spec: { port: 3000, public: true, requestHeaders: { 'X-Added': 'in' }, responseHeaders: { 'X-Out': 'out' } },
    });
    const answer = await stage.call(`${pathOf(body)}/a//b%2F?q=1`, {
      headers: { authorization: `Bearer ${stage.apiKey}` },
    });
    expect([answer.status, answer.headers.get('x-out'), await answer.text()]).toEqual([200, 'out', 'from the node']);
    expect(stage.seen[0]?.url).toMatch(/\/preview\/3000\/a\/\/b%2F\?q=1$/);
    expect(stage.seen[0]?.headers).toMatchObject({ 'x-added': 'in' });
    expect(JSON.stringify(stage.seen[0]?.headers)).not.toContain(stage.apiKey);
  });

  it('answers OPTIONS itself with the configured headers, and asks the program where there are none', async () => {
    const cors = { 'Access-Control-Allow-Origin': 'https://app.example' };
    const configured = await make('', { metadata: { name: 'cors' }, spec: { port: 1, responseHeaders: cors } });
    const preflight = await stage.call(pathOf(configured.body), { method: 'OPTIONS', key: '' });
    expect([preflight.status, preflight.headers.get('access-control-allow-origin')]).toEqual([
      204,
      'https://app.example',
    ]);
    expect(stage.seen).toEqual([]);
    const bare = await make('', { metadata: { name: 'bare' }, spec: { port: 1 } });
    await stage.call(pathOf(bare.body), { method: 'OPTIONS', key: '' });
    expect(stage.seen).toHaveLength(1);
  });
});

describe('a private preview', () => {
  it('opens by token in query, header or cookie; a refused request reaches no node', async () => {
    const { body } = await make('', {
      metadata: { name: 'shut' },
      spec: { port: 3000, public: false, prefixUrl: 'mine' },
    });
    expect(body.spec.url).toMatch(/\/preview\/mine-/);
    const path = pathOf(body);
    const { body: token } = await make('/shut/tokens', { metadata: { name: 't1' } });
    const value = token.spec.token;
    expect(value).toMatch(/^[a-zA-Z0-9_-]+$/);

    for (const refused of [
      await stage.call(path),
      await stage.call(`${path}?bl_preview_token=wrong`),
      await stage.call(path, { headers: { 'x-blaxel-preview-token': 'wrong', cookie: 'bl_preview_token=wrong' } }),
    ]) {
      expect(refused.status).toBe(401);
      expect(await refused.json()).toMatchObject({ error: { code: 'AUTHENTICATION_REQUIRED' } });
    }
    expect(stage.seen).toEqual([]);

    const first = await stage.call(`${path}/page?a=1&bl_preview_token=${value}&b=2`, { key: '' });
    expect(first.status).toBe(200);
    const cookie = first.headers.get('set-cookie') ?? '';
    expect(cookie).toContain(`bl_preview_token=${value}; Path=${path}; HttpOnly`);
    const byCookie = await stage.call(`${path}/style.css`, {
      key: '',
      headers: { cookie: cookie.split(';')[0] ?? '' },
    });
    expect([byCookie.status, byCookie.headers.get('set-cookie')]).toEqual([200, null]);
    expect((await stage.call(path, { key: '', headers: { 'x-blaxel-preview-token': value } })).status).toBe(200);
    expect(stage.seen[0]?.url).toMatch(/\/page\?a=1&b=2$/);
    expect(JSON.stringify(stage.seen)).not.toContain(value);

    const revoked = await stage.call(`/v0/sandboxes/box/previews/shut/tokens/${value}`, { method: 'DELETE' });
    expect(revoked.status).toBe(200);
    expect((await stage.call(path, { key: '', headers: { 'x-blaxel-preview-token': value } })).status).toBe(401);
  });

  it('lets nobody in after its token’s end', async () => {
    const { body } = await make('', { metadata: { name: 'brief' }, spec: { port: 3000, public: false } });
    const withTokenFor = async (ms: number) => {
      const expiresAt = new Date(Date.now() + ms).toISOString();
      const { body: token } = await make('/brief/tokens', { metadata: { name: `for-${ms}` }, spec: { expiresAt } });
      return async () => {
        const headers = { 'x-blaxel-preview-token': token.spec.token };
        return (await stage.call(pathOf(body), { key: '', headers })).status;
      };
    };
    expect(await (await withTokenFor(60_000))()).toBe(200);
    const brief = await withTokenFor(300);
    await vi.waitFor(async () => expect(await brief()).toBe(401), { timeout: 20_000 });
  });
});

describe('a session', () => {
  it('is the sandbox API itself, for browsers too', async () => {
    const { body } = await make('', { metadata: { name: 'session-1' }, spec: { port: 443, public: false } });
    const { body: token } = await make('/session-1/tokens', { metadata: { name: 't' } });
    const preflight = await stage.call(`${pathOf(body)}/process`, { method: 'OPTIONS', key: '' });
    expect([preflight.status, preflight.headers.get('access-control-allow-origin')]).toEqual([204, '*']);
    const answer = await stage.call(`${pathOf(body)}/process`, {
      method: 'POST',
      key: '',
      body: '{}',
      headers: { 'x-blaxel-preview-token': token.spec.token },
    });
    expect(answer.status).toBe(200);
    expect(stage.seen[0]?.url).toMatch(/\/blaxel\/process$/);
  });
});

describe('the records', () => {
  it('keeps a preview’s URL when it is made anew, refuses doubles, replaces by force', async () => {
    const spec = { port: 3000, public: true };
    const first = await make('', { metadata: { name: 'again' }, spec });
    expect((await make('', { metadata: { name: 'again' }, spec })).status).toBe(409);
    expect(
      (await make('?force=true', { metadata: { name: 'again' }, spec: { port: 4000, public: true } })).status,
    ).toBe(200);
    await stage.call(pathOf(first.body));
    expect(stage.seen[0]?.url).toContain('/preview/4000/');
    await stage.call('/v0/sandboxes/box/previews/again', { method: 'DELETE' });
    const unknown = await stage.call('/v0/sandboxes/box/previews/again');
    expect([unknown.status, await unknown.json()]).toMatchObject([404, { code: 404 }]);
    expect((await stage.call(pathOf(first.body))).status).toBe(404);
    const second = await make('', { metadata: { name: 'again' }, spec });
    expect(second.body.spec.url).toBe(first.body.spec.url);
  });

  it('makes none for a sandbox that is not there', async () => {
    const body = JSON.stringify({ metadata: { name: 'p' }, spec: { port: 1 } });
    expect((await stage.call('/v0/sandboxes/nobody/previews', { method: 'POST', body })).status).toBe(404);
  });
});
