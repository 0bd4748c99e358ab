import { instanceChanged, keyRevoked, Generation } from '@torpor/contracts';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { NODE, rehearse, type Rehearsal } from './rehearsal.ts';

let stage: Rehearsal;
beforeAll(async () => {
  stage = await rehearse();
});
afterAll(() => stage.close());

const json = (body: unknown) => ({ body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
const post = (path: string, body: unknown, headers = {}) =>
  stage.call(path, { method: 'POST', body: JSON.stringify(body), headers: { ...json(body).headers, ...headers } });

async function read(answer: Response): Promise<{ status: number; body: unknown }> {
  return { status: answer.status, body: await answer.json() };
}

describe('the main way', () => {
  it('creates, carries and deletes', async () => {
    const created = await read(await post('/v0/sandboxes', { metadata: { name: 'demo' } }));
    expect(created).toMatchObject({
      status: 200,
      body: { status: 'DEPLOYED', state: 'RUNNING', metadata: { url: 'http://gateway.test/main/sandboxes/demo' } },
    });

    stage.seen.length = 0;
    const answer = await stage.call('/main/sandboxes/demo/filesystem/%2Ftmp%2Fa?x=%2F');
    expect([answer.status, await answer.text()]).toEqual([200, 'from the node']);
    expect(stage.seen[0]?.url).toMatch(/^\/d\/i[a-z0-9]{15}\/1\/blaxel\/filesystem\/%2Ftmp%2Fa\?x=%2F$/);

    const shown = await read(await stage.call('/v0/sandboxes/demo'));
    expect(shown.body).toMatchObject({ status: 'DEPLOYED', state: 'STANDBY' });

    const deleted = await read(await stage.call('/v0/sandboxes/demo', { method: 'DELETE' }));
    expect(deleted).toMatchObject({ status: 200, body: { status: 'TERMINATED' } });
    stage.seen.length = 0;
    const gone = await read(await stage.call('/main/sandboxes/demo/process'));
    expect(gone).toMatchObject({ status: 404, body: { error: { code: 'WORKLOAD_NOT_FOUND', origin: 'platform' } } });
    expect(stage.seen).toEqual([]);
  });
});

describe('who may', () => {
  it('refuses without a key, with a bad one and with another workspace’s, and no node hears of it', async () => {
    await stage.plant('guarded');
    stage.seen.length = 0;
    const path = '/main/sandboxes/guarded/process';
    const stranger = await keyOf('theirs', { role: 'admin' });
    const narrow = await keyOf('main', { role: 'member', scopes: ['sandboxes:read'] });
    const answers = [
      await read(await stage.call(path, { key: '' })),
      await read(await stage.call(path, { key: 'tp_nonsense' })),
      await read(await stage.call(path, { key: stage.apiKey.replace(/.$/, (last) => (last === 'a' ? 'b' : 'a')) })),
      await read(await stage.call(path, { key: stranger })),
      await read(await stage.call(path, { key: narrow })),
      await read(await stage.call(path, { key: '', headers: { authorization: 'Basic abc' } })),
    ];
    expect(answers.map(({ status, body }) => [status, codeIn(body)])).toEqual([
      [401, 'AUTHENTICATION_REQUIRED'],
      [401, 'AUTHENTICATION_FAILED'],
      [401, 'AUTHENTICATION_FAILED'],
      [403, 'FORBIDDEN'],
      [403, 'FORBIDDEN'],
      [401, 'AUTHENTICATION_FAILED'],
    ]);
    expect(stage.seen).toEqual([]);
  });

  it('answers the control plane’s refusals with a numeric code', async () => {
    const stranger = await keyOf('theirs2', { role: 'admin' });
    const unknown = await read(await stage.call('/v0/sandboxes', { key: '' }));
    expect(unknown).toMatchObject({ status: 401, body: { code: 401 } });
    const headers = { 'x-blaxel-workspace': 'main' };
    const other = await read(await stage.call('/v0/sandboxes', { key: stranger, headers }));
    expect(other).toMatchObject({ status: 403, body: { code: 403 } });
    const missing = await read(await stage.call('/v0/sandboxes/nobody'));
    expect(missing).toMatchObject({ status: 404, body: { code: 404 } });
  });

  it('takes the key by either header and the workspace by header or query', async () => {
    for (const [path, headers] of [
      ['/v0/sandboxes', { authorization: `Bearer ${stage.apiKey}`, 'x-blaxel-workspace': 'main' }],
      ['/v0/sandboxes?workspace=main', { authorization: `bearer ${stage.apiKey}` }],
      ['/any/prefix/v0/sandboxes', { 'x-blaxel-authorization': `Bearer ${stage.apiKey}` }],
    ] as const) {
      expect((await stage.call(path, { key: '', headers })).status).toBe(200);
    }
  });

  it('forgets a key as soon as any gateway says that it is revoked', async () => {
    const text = await keyOf('main', { role: 'admin' });
    expect((await stage.call('/v0/sandboxes', { key: text })).status).toBe(200);
    const prefix = text.split('_')[1] ?? '';
    const found = await stage.store.keys.findByPrefix(prefix);
    await stage.store.workspace(stage.workspace).keys.revoke(found?.key.id ?? '', Date.now());
    stage.bus.as('another gateway').publish(keyRevoked, { prefix });
    await vi.waitFor(async () => expect((await stage.call('/v0/sandboxes', { key: text })).status).toBe(401));
  });

  it('asks the database about a key once for many requests', async () => {
    const text = await keyOf('main', { role: 'admin' });
    const find = vi.spyOn(stage.store.keys, 'findByPrefix');
    for (let i = 0; i < 20; i++) expect((await stage.call('/v0/workspaces', { key: text })).status).toBe(200);
    expect(find).toHaveBeenCalledTimes(1);
    find.mockRestore();
  });
});

describe('the control plane', () => {
  it('gives ten concurrent createIfNotExist callers the same sandbox, and a plain second create 409', async () => {
    const body = { metadata: { name: 'shared' } };
    const all = await Promise.all(Array.from({ length: 10 }, () => post('/v0/sandboxes?createIfNotExist=true', body)));
    expect(all.map((answer) => answer.status)).toEqual(Array(10).fill(200));
    const conflict = await read(await post('/v0/sandboxes', body));
    expect(conflict).toMatchObject({ status: 409, body: { code: 'SANDBOX_ALREADY_EXISTS', status_code: 409 } });
  });

  it('creates once for the same Idempotency-Key, and refuses the key for another request', async () => {
    const headers = { 'idempotency-key': 'once-1' };
    const first = await read(await post('/v0/sandboxes', { metadata: { labels: { a: 'b' } } }, headers));
    const again = await read(await post('/v0/sandboxes', { metadata: { labels: { a: 'b' } } }, headers));
    expect(first.status).toBe(200);
    expect(nameIn(again.body)).toBe(nameIn(first.body));
    const other = await read(await post('/v0/sandboxes', { metadata: { labels: { a: 'c' } } }, headers));
    expect(other.status).toBe(422);
  });

  it('lists in pages for new clients and bare for old ones', async () => {
    await stage.plant('list-a');
    await stage.plant('list-b');
    const paged = await read(
      await stage.call('/v0/sandboxes?limit=1', { headers: { 'blaxel-version': '2026-04-28' } }),
    );
    expect(paged.body).toMatchObject({ data: [{}], meta: { hasMore: true, nextCursor: expect.stringMatching(/./) } });
    const bare = await read(await stage.call('/v0/sandboxes?limit=1'));
    expect(Array.isArray(bare.body) && bare.body.length > 1).toBe(true);
    const future = await read(await stage.call('/v0/sandboxes', { headers: { 'blaxel-version': '2031-01-01' } }));
    expect(future).toMatchObject({ status: 400, body: { error: 'invalid_api_version' } });
  });

  it('updates in place what a client reads, changes and sends back', async () => {
    await post('/v0/sandboxes', { metadata: { name: 'changing' } });
    const { body } = await read(await stage.call('/v0/sandboxes/changing'));
    const changed = { ...Object(body), metadata: { ...Object(body).metadata, labels: { z: '1' } } };
    const put = await read(await stage.call('/v0/sandboxes/changing', { method: 'PUT', ...json(changed) }));
    expect(put).toMatchObject({ status: 200, body: { metadata: { labels: { z: '1' } } } });
  });

  it.each([
    ['GET', '/v0/volumes'],
    ['POST', '/v0/oauth/token'],
    ['GET', '/v0/sandboxes/demo/schedules'],
    ['POST', '/v0/jobs/j/executions'],
    ['GET', '/v0/models/gpt'],
  ])('says of %s %s that it is not there yet', async (method, path) => {
    const answer = await read(await stage.call(path, { method }));
    expect(answer).toMatchObject({
      status: 501,
      body: { code: 501, message: expect.stringContaining('does not have it yet') },
    });
  });

  it('writes every change into the audit log, with how it ended', async () => {
    await post('/v0/sandboxes', { metadata: { name: 'audited' } });
    await post('/v0/sandboxes', { metadata: { name: 'audited' } });
    await stage.call('/v0/sandboxes/audited', { method: 'DELETE' });
    await post('/v0/sandboxes', {
      metadata: { name: 'with-volumes' },
      spec: { volumes: [{ name: 'v', mountPath: '/v' }] },
    });
    await vi.waitFor(async () => {
      const rows = await stage.store.workspace(stage.workspace).audit.list({ limit: 100 });
      const ours = rows.filter((row) => row.target === 'audited').map((row) => [row.action, row.outcome]);
      expect(ours.toSorted()).toEqual([
        ['sandbox.create', 'ok'],
        ['sandbox.delete', 'ok'],
      ]);
      expect(rows.some((row) => row.action === 'sandbox.create' && row.outcome === 'conflict')).toBe(true);
      expect(rows.some((row) => row.action === 'sandbox.create' && row.outcome === 'refused with 501')).toBe(true);
    });
  });

  it('writes refusals and uses into the audit log', async () => {
    await stage.plant('used');
    const narrow = await keyOf('main', { name: 'narrow', role: 'member', scopes: ['sandboxes:read'] });
    const made = await read(
      await post('/v0/sandboxes/used/previews', { metadata: { name: 'p' }, spec: { port: 1, public: false } }),
    );
    const preview = String(Object(Object(made.body).spec).url).replace('http://gateway.test', '');
    const trpc = { method: 'POST', ...json({ name: 'used' }), key: narrow };
    const answers = [
      await stage.call('/main/sandboxes/used/process'),
      await stage.call('/main/sandboxes/nobody/process'),
      await stage.call('/main/sandboxes/used/process', { key: narrow }),
      await stage.call('/v0/sandboxes/used', { key: narrow, method: 'DELETE' }),
      await stage.call('/trpc/keys.list', { key: narrow }),
      await stage.call('/trpc/sandboxes.pause', trpc),
      await stage.call(preview, { key: '' }),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 404, 403, 403, 403, 403, 401]);
    await vi.waitFor(async () => {
      const rows = await stage.store.workspace(stage.workspace).audit.list({ limit: 100 });
      const told = rows.map(({ actor, action, target = '', outcome }) => [actor, action, target, outcome].join(' '));
      expect(told).toEqual(
        expect.arrayContaining([
          'key:first sandbox.use used ok',
          'key:narrow sandboxes:use  forbidden',
          'key:narrow sandboxes:write  forbidden',
          'key:narrow keys:read  forbidden',
          'stranger preview.use used/p unauthenticated',
        ]),
      );
      expect(told).not.toContain('key:first sandbox.use nobody ok');
    });
  });

  it('shows what a node last said in lists, without asking it again', async () => {
    const planted = await stage.plant('told');
    stage.bus.as('node').publish(instanceChanged, {
      atMs: 1,
      nodeId: NODE,
      what: 'woke',
      instance: {
        ...planted,
        generation: Generation.parse(1),
        state: 'running',
        isolation: 'none',
        lastUsedAtMs: 2,
        because: 'request',
      },
    });
    await vi.waitFor(async () => {
      const { body } = await read(await stage.call('/v0/sandboxes'));
      expect([body].flat().find((each) => nameIn(each) === 'told')).toMatchObject({ state: 'RUNNING' });
    });
  });
});

describe('bad input', () => {
  it.each([
    ['malformed JSON', '{"a":'],
    ['no JSON at all', '\xff\xfe'],
    ['an array', '[]'],
    ['a number for a name', '{"metadata":{"name":7}}'],
    ['a bad name', '{"metadata":{"name":"../../etc"}}'],
    ['a NUL', '{"metadata":{"name":"a","labels":{"a":"\\u0000"}}}'],
    ['half a surrogate', '{"metadata":{"name":"a","labels":{"a":"\\ud800"}}}'],
    ['a well of brackets', `{"metadata":${'{"x":'.repeat(5_000)}1${'}'.repeat(5_000)}}`],
    ['an unknown image', '{"spec":{"runtime":{"image":"nobody/nothing:1"}}}'],
    ['absurd memory', '{"spec":{"runtime":{"memory":1e15}}}'],
  ])('answers %s with 400 and a reason', async (_what, body) => {
    const answer = await read(await stage.call('/v0/sandboxes', { method: 'POST', body }));
    expect(answer).toMatchObject({ status: 400, body: { message: expect.stringMatching(/.{10,}/) } });
  });

  it('answers 413 to a body beyond a MiB, with and without a length', async () => {
    const big = `"${'x'.repeat(1_100_000)}"`;
    expect((await stage.call('/v0/sandboxes', { method: 'POST', body: big })).status).toBe(413);
  });

  it('answers a path that cannot be decoded, and a query with a NUL, with 400', async () => {
    expect((await stage.call('/v0/sandboxes/%zz')).status).toBe(400);
    expect((await stage.call('/v0/sandboxes?q=%00')).status).toBe(400);
    expect((await stage.call('/v0/sandboxes?cursor=nonsense')).status).toBe(400);
  });
});

async function keyOf(
  workspace: string,
  { name = 'k', ...more }: { name?: string; role: 'admin' | 'member'; scopes?: string[] },
): Promise<string> {
  const { mintKey } = await import('@torpor/store');
  const { WorkspaceName } = await import('@torpor/contracts');
  const { systemChance } = await import('@torpor/kernel');
  const { text, ...minted } = mintKey(systemChance);
  const rest = { name, subject: `key:${name}`, createdAtMs: Date.now(), createdBy: 'test' };
  await stage.store.workspace(WorkspaceName.parse(workspace)).keys.create({ ...minted, ...rest, ...more });
  return text;
}

function codeIn(body: unknown): unknown {
  return Object(Object(body).error).code;
}

function nameIn(body: unknown): unknown {
  return Object(Object(body).metadata).name;
}
