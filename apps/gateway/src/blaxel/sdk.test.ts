/** The unmodified SDK against the gateway: what it makes of our answers is the only judge of the dialect. */
import { resumeInstance, storeInstance } from '@torpor/contracts';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { NODE, rehearse, type Rehearsal } from '../rehearsal.ts';

let stage: Rehearsal;
let sdk: typeof import('@blaxel/core');
beforeAll(async () => {
  stage = await rehearse();
  Object.assign(process.env, {
    BL_API_URL: `${stage.url}/v0`,
    BL_RUN_URL: stage.url,
    BL_WORKSPACE: 'main',
    BL_API_KEY: stage.apiKey,
    BL_DISABLE_H2: '1',
    BL_SANDBOX_SDK_URL: `${stage.url}/main/sandboxes/sdk`,
    DO_NOT_TRACK: '1',
  });
  sdk = await import('@blaxel/core'); // reads the environment when it is imported
});
afterAll(() => stage.close());

it('creates, finds again, lists, changes and deletes', async () => {
  const { SandboxInstance } = sdk;
  const made = await SandboxInstance.create({ name: 'sdk', labels: { a: 'b' } });
  expect(made.status).toBe('DEPLOYED');
  const same = await SandboxInstance.createIfNotExists({ name: 'sdk' });
  expect(same.metadata.name).toBe('sdk');
  const found = await SandboxInstance.get('sdk');
  expect(found.metadata.labels).toEqual({ a: 'b' });
  await SandboxInstance.updateMetadata('sdk', { labels: { z: '1' } });
  await SandboxInstance.updateTtl('sdk', '1h');
  const changed = await SandboxInstance.get('sdk');
  expect([changed.metadata.labels, changed.spec.runtime?.ttl]).toEqual([{ z: '1' }, '1h']);
  await stage.plant('second');
  const page = await SandboxInstance.list({ limit: 1 });
  expect([page.data.length, page.hasMore]).toEqual([1, true]);
  expect((await page.nextPage())?.data.length).toBe(1);
  await expect(SandboxInstance.get('nobody')).rejects.toMatchObject({ code: 404 });
});

it('reaches ports, makes previews with tokens, and sessions', async () => {
  const box = await sdk.SandboxInstance.get('sdk');
  const answer = await box.fetch(3000, '/hello?x=1');
  expect(await answer.text()).toBe('from the node');
  const preview = await box.previews.createIfNotExists({
    metadata: { name: 'p1' },
    spec: { port: 3000, public: false, responseHeaders: { 'Access-Control-Allow-Origin': '*' } },
  });
  expect(preview.spec.url).toContain('/preview/');
  const token = await preview.tokens.create(new Date(Date.now() + 600_000));
  expect(token.value).toMatch(/^[a-zA-Z0-9_-]+$/);
  expect(await preview.tokens.list()).toHaveLength(1);
  await preview.tokens.delete(token.value);
  expect(await preview.tokens.list()).toHaveLength(0);
  expect(await box.previews.list()).toHaveLength(1);
  await box.previews.delete('p1');
  const session = await box.sessions.create({});
  expect(session.url).toContain('/preview/');
  expect(await box.sessions.list()).toHaveLength(1);
});

it('archives, and brings back', async () => {
  const reply = (state: 'stored' | 'running') => async () => {
    stage.reported = { state, storeAsked: state === 'stored' };
    return { state, tookMs: 1 };
  };
  const node = stage.bus.as('node');
  await node.serve(storeInstance, reply('stored'), { node: NODE });
  await node.serve(resumeInstance, reply('running'), { node: NODE });
  const box = await sdk.SandboxInstance.get('sdk');
  expect((await box.archive()).status).toBe('ARCHIVED');
  expect((await sdk.SandboxInstance.get('sdk')).status).toBe('ARCHIVED');
  expect((await box.unarchive()).status).toBe('DEPLOYED');
});

it('makes snapshots, goes back to them, forks, and lets them go', async () => {
  const box = await sdk.SandboxInstance.get('sdk');
  const made = await box.snapshot('one');
  expect(made).toMatchObject({ name: 'one', status: 'READY', sandboxName: 'sdk', workspace: 'main' });
  const other = await box.snapshots.create('two');
  expect([other.name, other.source]).toEqual(['two', { kind: 'sandbox', name: 'sdk', deleted: false }]);
  expect((await box.listSnapshots()).map(({ name }) => name)).toEqual(['one', 'two']);
  expect(await box.restore(made.id)).toEqual({ name: 'sdk', snapshotId: made.id });
  await expect(box.restore('nothing')).rejects.toMatchObject({ code: 404 });
  const fork = await box.fork('forked', { snapshotId: made.id, envs: [{ name: 'A', value: '1' }] });
  expect(fork).toEqual({ name: 'forked', snapshotId: made.id, type: 'sandbox' });
  expect((await sdk.SandboxInstance.get('forked')).spec.runtime?.envs).toEqual([{ name: 'A', value: '1' }]);
  await expect(box.fork('forked')).rejects.toMatchObject({ code: 409 });
  await expect(box.fork('app', { targetType: 'application' })).rejects.toMatchObject({ code: 501 });
  await box.deleteSnapshot(made.id);
  await box.snapshots.delete('two');
  expect(await box.listSnapshots()).toEqual([]);
});

it('is told plainly of what we lack, and deletes', async () => {
  const box = await sdk.SandboxInstance.get('sdk');
  await expect(sdk.VolumeInstance.list()).rejects.toMatchObject({ code: 501 });
  await sdk.SandboxInstance.delete('sdk');
  await expect(box.process.list()).rejects.toThrow(/404|no sandbox/i);
});
