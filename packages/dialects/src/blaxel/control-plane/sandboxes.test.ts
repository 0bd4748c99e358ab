import { Sandbox, SandboxAsk, WorkspaceName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseSpan } from './durations.ts';
import { plainImages, resolveBlaxelImage } from './images.ts';
import { blaxelCreationErrorOf, blaxelErrorOf, blaxelRunErrorOf } from './refusals.ts';
import { parseBlaxelCreate, plainOffer } from './sandbox-ask.ts';
import { parseBlaxelUpdate } from './sandbox-update.ts';
import { standingOf, toBlaxelSandbox } from './sandbox-view.ts';

const NOW = Date.parse('2026-11-22T00:00:00Z');
/** Each value may be as long, all of them may not. */
const heavyEnvs = ['A', 'B', 'C'].map((name) => ({ name, value: 'x'.repeat(100 * 1024) }));
const images = [
  ...plainImages('base'),
  { repository: 'mine', tags: ['v1', 'latest'], template: 'mine' },
  { repository: 'mine', tags: ['v3'], template: 'newer' },
];
const context = {
  workspace: WorkspaceName.parse('acme'),
  createdBy: 'me',
  createIfNotExist: false,
  offer: plainOffer(images),
  nowMs: NOW,
};

function create(body: unknown, more: Partial<typeof context> = {}) {
  return parseBlaxelCreate(body, { ...context, ...more });
}

function asked(body: unknown): SandboxAsk {
  const parsed = create(body);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.refusal.body));
  return parsed.value;
}

function refused(body: unknown): Record<string, unknown> {
  const parsed = create(body);
  if (parsed.ok) throw new Error('it was accepted');
  return parsed.refusal.body;
}

function made(body: unknown): { current: Sandbox; currentEnv: Record<string, string> } {
  const { reuse: _, env, ...ask } = asked(body);
  const current = Sandbox.parse({
    ...ask,
    name: ask.name ?? 'made',
    instanceId: 'iaaaaaaaaaaaaaaa',
    generation: 1,
    nodeId: 'n1',
    phase: 'ready',
    envNames: Object.keys(env),
    createdAtMs: NOW,
    updatedAtMs: NOW,
    lastUsedAtMs: NOW,
  });
  return { current, currentEnv: env };
}

describe('creating', () => {
  test('nothing at all is a sandbox with defaults', () => {
    for (const body of [
      undefined,
      {},
      { metadata: null, spec: null },
      { metadata: { name: '' }, spec: { runtime: {} } },
    ]) {
      expect(asked(body)).toMatchObject({
        template: 'base',
        image: 'blaxel/base-image:latest',
        shape: { memoryMib: 4096, cpus: 2 },
        idle: { kind: 'after', idleMs: 15_000 },
        expiry: {},
        terminatedRetentionMs: 300_000,
        reuse: false,
      });
      expect(asked(body)).not.toHaveProperty('name');
    }
  });

  test('all that the SDK sends is understood or kept', () => {
    const body = {
      metadata: { name: 'demo', labels: { a: 'b' }, externalId: 'x-1', url: 'ignored', createdAt: 'ignored', odd: 1 },
      spec: {
        region: 'eu-1',
        runtime: {
          image: 'mine:v1',
          memory: 2048,
          generation: 'mk3',
          snapshotEnabled: true,
          ports: [{ target: 3000, protocol: 'http', name: 'web' }],
          envs: [
            { name: 'A', value: '1' },
            { name: 'S', value: 's', secret: true },
          ],
          ttl: '24h',
          expires: '2026-11-25T00:00:00Z',
          extraArgs: { kernel: 'x' },
        },
        volumes: [],
        network: {},
        lifecycle: {
          expirationPolicies: [
            { type: 'ttl-idle', value: '5s', action: 'delete' },
            { type: 'ttl-max-age', value: '1h' },
          ],
          terminatedRetention: '10m',
        },
      },
    };
    const ask = asked(body);
    expect(SandboxAsk.parse(ask)).toEqual(ask);
    expect(ask).toMatchObject({
      name: 'demo',
      template: 'mine',
      env: { A: '1', S: 's' },
      ports: [{ target: 3000, protocol: 'HTTP', name: 'web' }],
      expiry: { maxAgeMs: 3_600_000, idleMs: 5000, atMs: Date.parse('2026-11-25T00:00:00Z') },
      terminatedRetentionMs: 600_000,
    });
    const view = toBlaxelSandbox(made(body).current, { publicUrl: 'http://t', nowMs: NOW });
    expect(view).toMatchObject({
      metadata: { name: 'demo', odd: 1, url: 'http://t/acme/sandboxes/demo', createdAt: '2026-11-22T00:00:00.000Z' },
      spec: {
        region: 'eu-1',
        lifecycle: body.spec.lifecycle,
        runtime: { ttl: '24h', generation: 'mk3', extraArgs: { kernel: 'x' }, image: 'mine:v1', memory: 2048 },
      },
      status: 'DEPLOYED',
      expiresIn: 5,
    });
  });

  test.each([
    ['name', { metadata: { name: 'Bad_Name' } }, 'INVALID_REQUEST', /metadata\.name/],
    ['name too long', { metadata: { name: 'a'.repeat(50) } }, 'INVALID_REQUEST', /metadata\.name/],
    ['labels', { metadata: { labels: { a: 1 } } }, 'INVALID_REQUEST', /metadata\.labels\.a/],
    ['externalId', { metadata: { externalId: 'a b' } }, 'INVALID_REQUEST', /externalId/],
    ['memory text', { spec: { runtime: { memory: '1' } } }, 'INVALID_REQUEST', /memory/],
    ['memory too much', { spec: { runtime: { memory: 10_000_000 } } }, 'QUOTA_EXCEEDED', /at most/],
    ['memory fraction', { spec: { runtime: { memory: 512.5 } } }, 'INVALID_REQUEST', /whole number/],
    ['reserved port', { spec: { runtime: { ports: [{ target: 8080 }] } } }, 'INVALID_REQUEST', /reserved/],
    ['port protocol', { spec: { runtime: { ports: [{ target: 1, protocol: 'X' }] } } }, 'INVALID_REQUEST', /protocol/],
    ['env name', { spec: { runtime: { envs: [{ name: '1A', value: '' }] } } }, 'INVALID_REQUEST', /digit/],
    ['env too heavy', { spec: { runtime: { envs: heavyEnvs } } }, 'INVALID_REQUEST', /at most 262144/],
    ['ttl', { spec: { runtime: { ttl: '5 minutes' } } }, 'INVALID_REQUEST', /spec\.runtime\.ttl is "5 minutes"/],
    ['ttl of nothing', { spec: { runtime: { ttl: '0s' } } }, 'INVALID_REQUEST', /ttl/],
    ['expires', { spec: { runtime: { expires: 'tomorrow' } } }, 'INVALID_REQUEST', /expires/],
    ['expires in the past', { spec: { runtime: { expires: '2020-01-01' } } }, 'INVALID_REQUEST', /past/],
    [
      'policy',
      { spec: { lifecycle: { expirationPolicies: [{ type: 'x', value: '1s' }] } } },
      'INVALID_REQUEST',
      /type/,
    ],
    ['image unknown', { spec: { runtime: { image: 'blaxel/nope' } } }, 'INVALID_IMAGE', /does not exist/],
    ['image tag', { spec: { runtime: { image: 'blaxel/base-image:nope' } } }, 'INVALID_IMAGE', /no tag/],
    ['image malformed', { spec: { runtime: { image: 'Not An Image!!' } } }, 'INVALID_IMAGE', /malformed/],
    ['volumes', { spec: { volumes: [{ name: 'v', mountPath: '/v' }] } }, 'NOT_SUPPORTED', /volumes/],
    ['network', { spec: { network: { allowedDomains: ['x.y'] } } }, 'NOT_SUPPORTED', /network/],
    ['text', 'text', 'INVALID_REQUEST', /object/],
    ['much beside', { spec: { blob: 'x'.repeat(100_000) } }, 'INVALID_REQUEST', /bytes/],
  ])('a bad %s is refused with words', (_, body, code, message) => {
    expect(refused(body)).toMatchObject({
      code,
      message: expect.stringMatching(message),
      workspace: 'acme',
      status_code: expect.any(Number),
    });
  });

  test('reuse needs a name', () => {
    const createIfNotExist = true;
    expect(create({ metadata: { name: 'x' } }, { createIfNotExist })).toMatchObject({ value: { reuse: true } });
    expect(create({}, { createIfNotExist })).toMatchObject({ value: { reuse: false } });
  });

  test('whatever is sent, it parses or is refused with a 4xx or 501', () => {
    const json = fc.json().map((text) => JSON.parse(text) as unknown);
    const likely = fc.record(
      {
        metadata: fc.record({ name: json, labels: json, externalId: json }, { requiredKeys: [] }),
        spec: fc.record(
          {
            runtime: fc.record(
              { image: json, memory: json, ports: json, envs: json, ttl: json, expires: json },
              { requiredKeys: [] },
            ),
            lifecycle: json,
            network: json,
            volumes: json,
          },
          { requiredKeys: [] },
        ),
      },
      { requiredKeys: [] },
    );
    const { current, currentEnv } = made({});
    fc.assert(
      fc.property(fc.oneof(json, likely), (body) => {
        const parsed = create(body);
        const status = parsed.ok ? 200 : parsed.refusal.status;
        expect([200, 400, 501]).toContain(status);
        const update = parseBlaxelUpdate(body, { current, currentEnv, offer: context.offer, nowMs: NOW });
        expect([200, 400, 501]).toContain(update.ok ? 200 : update.refusal.status);
      }),
      { numRuns: 500 },
    );
  });
});

describe('images', () => {
  test.each([
    ['blaxel/base-image', 'base'],
    ['blaxel/base-image:latest', 'base'],
    ['base-image', 'base'],
    ['mine', 'mine'],
    ['sandbox/mine:v1', 'mine'],
    ['mine:v2', undefined],
    ['mine:v3', 'newer'],
    ['docker.io/library/alpine', undefined],
    ['mine:', undefined],
    ['', undefined],
    ['a'.repeat(300), undefined],
  ])('%s', (image, template) => {
    const resolved = resolveBlaxelImage(image, images);
    expect(resolved.kind === 'found' ? resolved.template : undefined).toBe(template);
  });
});

describe('changing', () => {
  const full = {
    metadata: { name: 'demo', labels: { a: 'b' }, externalId: 'x-1', displayName: 'Demo' },
    spec: {
      runtime: {
        ttl: '1h',
        envs: [
          { name: 'A', value: '1' },
          { name: 'S', value: 's', secret: true },
        ],
        extraArgs: { k: 'v' },
      },
      lifecycle: { expirationPolicies: [{ type: 'ttl-idle', value: '1d' }] },
    },
  };
  const { current, currentEnv } = made(full);
  const change = (body: unknown) => {
    const parsed = parseBlaxelUpdate(body, { current, currentEnv, offer: context.offer, nowMs: NOW });
    return parsed.ok ? parsed.value : parsed.refusal.body;
  };

  test('sending back what was read changes nothing, masked or not', () => {
    for (const env of [undefined, currentEnv]) {
      const view = toBlaxelSandbox(current, { publicUrl: 'http://t', nowMs: NOW, ...(env ? { env } : {}) });
      expect(change(JSON.parse(JSON.stringify(view)))).toEqual({ changes: {}, restarts: false });
    }
    expect(change({})).toEqual({ changes: {}, restarts: false });
  });

  test.each([
    ['labels', { metadata: { labels: { z: '1' } } }, { labels: { z: '1' } }],
    ['externalId', { metadata: { externalId: 'x-2' } }, { externalId: 'x-2' }],
    ['the ttl', { spec: { runtime: { ttl: '2h' } } }, { expiry: { maxAgeMs: 7_200_000, idleMs: 86_400_000 } }],
    ['no ttl, by nothing', { spec: { runtime: { ttl: '' } } }, { expiry: { idleMs: 86_400_000 } }],
    ['no ttl, by null', { spec: { runtime: { ttl: null } } }, { expiry: { idleMs: 86_400_000 } }],
    ['no lifecycle', { spec: { lifecycle: null } }, { expiry: { maxAgeMs: 3_600_000 } }],
    ['retention', { spec: { lifecycle: { terminatedRetention: '1h' } } }, { terminatedRetentionMs: 3_600_000 }],
  ])('%s in place', (_, body, changes) => {
    expect(change(body)).toMatchObject({ changes, restarts: false });
  });

  test('a change of the environment restarts; masked values stay', () => {
    const envs = [
      { name: 'A', value: '2' },
      { name: 'S', secret: true },
    ];
    expect(change({ spec: { runtime: { envs } } })).toMatchObject({
      changes: { env: { A: '2', S: 's' } },
      restarts: true,
    });
    const stripped = change({ spec: { runtime: { envs: [{ name: 'A', value: '1' }, { name: 'S' }] } } });
    expect(stripped).toEqual({ changes: {}, restarts: false });
    expect(change({ spec: { runtime: { envs: [] } } })).toMatchObject({ changes: { env: {} }, restarts: true });
  });

  test('declared ports are told again', () => {
    const ports = [{ target: 4000 }];
    const answer = parseBlaxelUpdate(
      { spec: { runtime: { ports } } },
      { current, currentEnv, offer: context.offer, nowMs: NOW },
    );
    const extra = answer.ok ? answer.value.changes.extra : undefined;
    const view = toBlaxelSandbox({ ...current, extra: extra ?? {} }, { publicUrl: '', nowMs: NOW });
    expect(view).toMatchObject({ spec: { runtime: { ports } } });
  });

  test.each([
    ['another name', { metadata: { name: 'other' } }, 400],
    ['another image', { spec: { runtime: { image: 'mine' } } }, 501],
    ['an unknown image', { spec: { runtime: { image: 'nope' } } }, 400],
    ['more memory', { spec: { runtime: { memory: 8192 } } }, 400],
    ['other extraArgs', { spec: { runtime: { extraArgs: { k: 'w' } } } }, 400],
    ['a region', { spec: { region: 'there' } }, 400],
    ['a bad ttl', { spec: { runtime: { ttl: 'x' } } }, 400],
    ['rules', { spec: { network: { forbiddenDomains: ['*'] } } }, 501],
  ])('%s is refused', (_, body, code) => {
    expect(change(body)).toMatchObject({ code, message: expect.any(String) });
  });
});

describe('showing', () => {
  const view = (sandbox: Sandbox, more: object = {}) =>
    toBlaxelSandbox(sandbox, { publicUrl: 'http://t', nowMs: NOW, ...more });

  test('secrets are shown to those who may, other values to all, and no region is made up', () => {
    const envs = [
      { name: 'A', value: '1' },
      { name: 'S', value: 's', secret: true },
    ];
    const { current, currentEnv } = made({ spec: { runtime: { envs } } });
    expect(view(current, { env: currentEnv })).toMatchObject({
      spec: {
        runtime: {
          envs: [
            { name: 'A', value: '1' },
            { name: 'S', secret: true },
          ],
        },
      },
    });
    expect(JSON.stringify(view(current, { env: currentEnv }))).not.toContain('"s"');
    expect(view(current, { env: currentEnv, showSecrets: true })).toMatchObject({ spec: { runtime: { envs } } });
    expect(view(current)).not.toHaveProperty('spec.region');
  });

  test.each([
    ['creating', {}, undefined, { status: 'DEPLOYING' }],
    [
      'ready',
      {},
      { state: 'running', lastUsedAtMs: NOW + 5 },
      { status: 'DEPLOYED', state: 'RUNNING', lastUsedAt: '2026-11-22T00:00:00.005Z' },
    ],
    ['ready', {}, { state: 'paused', lastUsedAtMs: 0 }, { status: 'DEPLOYED', state: 'STANDBY' }],
    ['ready', {}, { state: 'stored', lastUsedAtMs: 0 }, { status: 'DEPLOYED', state: 'STANDBY' }],
    ['ready', {}, { state: 'storing', lastUsedAtMs: 0, storeAsked: true }, { status: 'ARCHIVING' }],
    [
      'ready',
      {},
      { state: 'stored', lastUsedAtMs: 0, storeAsked: true, imageBytes: 7, imageAtMs: NOW },
      { status: 'ARCHIVED', archive: { size: 7, createdAt: '2026-11-22T00:00:00.000Z' } },
    ],
    ['ready', {}, { state: 'restoring', lastUsedAtMs: 0, storeAsked: true }, { status: 'UNARCHIVING' }],
    ['failed', { reason: 'no disk' }, undefined, { status: 'FAILED', errors: [{ message: 'no disk', fatal: true }] }],
    ['terminated', { terminatedAtMs: NOW }, undefined, { status: 'TERMINATED', expiresIn: 0 }],
    ['ready', { expiry: { maxAgeMs: 0 } }, undefined, { status: 'TERMINATED' }],
  ])('%s %j', (phase, more, instance, shown) => {
    const { current } = made({});
    expect(view(Sandbox.parse({ ...current, phase, ...more }), instance ? { instance } : {})).toMatchObject(shown);
  });

  test('expiry is exact, and the record stays for its retention', () => {
    const { current } = made({ spec: { runtime: { ttl: '1s' }, lifecycle: { terminatedRetention: '10s' } } });
    expect(standingOf(current, NOW + 999)).toMatchObject({ kind: 'living', endsAtMs: NOW + 1000 });
    expect(standingOf(current, NOW + 1000)).toMatchObject({ kind: 'ended', atMs: NOW + 1000, readable: true });
    expect(standingOf(current, NOW + 11_000)).toMatchObject({ readable: false });
  });
});

describe('refusing', () => {
  const conflict = new Failure('conflict', 'there is one');
  test('each plane has its shape', () => {
    expect(blaxelErrorOf(conflict)).toEqual({
      status: 409,
      body: { code: 409, error: 'Conflict', message: 'there is one' },
    });
    expect(blaxelCreationErrorOf(conflict, { workspace: 'acme', sandboxName: 'x', nowMs: NOW })).toMatchObject({
      status: 409,
      body: {
        code: 'SANDBOX_ALREADY_EXISTS',
        status_code: 409,
        sandbox_name: 'x',
        timestamp: '2026-11-22T00:00:00.000Z',
      },
    });
    expect(blaxelRunErrorOf(new Failure('unavailable', 'not now', { retryAfterS: 1 }), NOW)).toMatchObject({
      status: 503,
      retryAfterS: 1,
      body: { error: { code: 'WORKLOAD_UNAVAILABLE', retryable: true, origin: 'platform' } },
    });
    expect(blaxelRunErrorOf(new Failure('not_found', 'no'), NOW)).toMatchObject({
      body: { error: { code: 'WORKLOAD_NOT_FOUND', status: 404 } },
    });
  });

  test('a bug of ours is a 500 that tells nothing of it', () => {
    for (const refusal of [blaxelErrorOf(new Error('pg: secret')), blaxelRunErrorOf(new Error('pg: secret'), NOW)]) {
      expect(refusal.status).toBe(500);
      expect(JSON.stringify(refusal.body)).not.toContain('pg');
    }
  });
});

describe('spans', () => {
  test.each([
    ['1s', 1000],
    ['5m', 300_000],
    ['24h', 86_400_000],
    ['7d', 604_800_000],
    ['2w', 1_209_600_000],
    ['1h30m', 5_400_000],
    ['', undefined],
    ['1', undefined],
    ['1.5h', undefined],
    ['-1h', undefined],
    ['1y', undefined],
    ['999999999999w', undefined],
  ])('%s', (text, ms) => {
    expect(parseSpan(text)).toBe(ms);
  });
});
