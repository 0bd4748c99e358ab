import type { ApiRouter } from '@torpor/api';
import { compareFiles, mergeFiles, NodeId, SandboxName, type FilePoint } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { createTRPCClient, httpLink } from '@trpc/client';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { NODE, rehearse, type Rehearsal } from '../rehearsal.ts';

let stage: Rehearsal;
let client: ReturnType<typeof createTRPCClient<ApiRouter>>;
const asked: unknown[] = [];
let missing: string | undefined;

const [parent, fork, alone] = ['parent', 'fork', 'alone'].map((name) => SandboxName.parse(name)) as [
  SandboxName,
  SandboxName,
  SandboxName,
]; // three of three

beforeAll(async () => {
  stage = await rehearse();
  const headers = { authorization: `Bearer ${stage.apiKey}` };
  client = createTRPCClient<ApiRouter>({ links: [httpLink({ url: `${stage.url}/trpc`, headers })] });
  await client.sandboxes.create.mutate({ name: parent });
  await client.snapshots.create.mutate({ name: parent, snapshot: 'one' });
  await client.sandboxes.fork.mutate({ name: parent, as: fork, snapshot: 'one' });
  await stage.plant('alone', { nodeId: NodeId.parse('node-2') });
  const node = stage.bus.as('node');
  const told = { image: 'any', atMs: 1 };
  const look = (point: FilePoint) => {
    if (missing !== undefined && typeof point.at === 'object') {
      throw new Failure('not_found', 'this sandbox has no such snapshot', { details: { snapshot: missing } });
    }
  };
  await node.serve(
    compareFiles,
    async (ask) => {
      asked.push(ask);
      look(ask.from);
      return { from: told, to: told, changes: [], counts: {}, unlisted: 0, tookMs: 1 };
    },
    { node: NODE },
  );
  await node.serve(
    mergeFiles,
    async (ask) => {
      asked.push(ask);
      look(ask.base);
      return { isMerged: true, steps: [], conflicts: [], unlisted: 0, left: [], tookMs: 1 };
    },
    { node: NODE },
  );
});
afterAll(() => stage.close());

const failure = (code: string, message: string) => ({
  data: { failure: { code } },
  message: expect.stringContaining(message),
});

it('asks the node of both for what changed, and finds the base of a fork with its parent', async () => {
  const of = await client.sandboxes.get.query({ name: fork });
  await client.files.diff.mutate({ from: { name: fork, at: 'base' }, to: { name: fork, at: 'now' }, under: '/srv' });
  const { instanceId, snapshot } = of.origin ?? {};
  expect(asked.at(-1)).toMatchObject({
    from: { instanceId, at: { snapshot } },
    to: { instanceId: of.instanceId, generation: of.generation, at: 'now' },
    under: '/srv',
  });
});

it('says that a base is gone, and of any other snapshot that it is missing', async () => {
  const { origin } = await client.sandboxes.get.query({ name: fork });
  missing = origin?.snapshot;
  const base = { name: fork, at: 'base' } as const;
  const now = { name: fork, at: 'now' } as const;
  await expect(client.files.diff.mutate({ from: base, to: now })).rejects.toMatchObject(
    failure('not_found', 'the base of the fork is gone'),
  );
  await expect(client.files.merge.mutate({ fork, into: parent })).rejects.toMatchObject(
    failure('not_found', 'the base of the fork is gone'),
  );
  const one = { name: parent, at: { snapshot: 'one' } } as const;
  await expect(client.files.diff.mutate({ from: one, to: now })).rejects.toMatchObject(
    failure('not_found', 'no such snapshot'),
  );
  missing = undefined;
});

it('refuses what cannot be compared or merged, and says why', async () => {
  const now = (name: SandboxName) => ({ name, at: 'now' }) as const;
  await expect(client.files.diff.mutate({ from: now(parent), to: now(alone) })).rejects.toMatchObject(
    failure('conflict', 'on node-2'),
  );
  await expect(client.files.diff.mutate({ from: { name: parent, at: 'base' }, to: now(parent) })).rejects.toMatchObject(
    failure('conflict', 'is no fork'),
  );
  await expect(client.files.merge.mutate({ fork, into: alone })).rejects.toMatchObject(
    failure('conflict', 'is a fork of "parent"'),
  );
  const under = '/srv/../etc';
  await expect(client.files.diff.mutate({ from: now(parent), to: now(fork), under })).rejects.toMatchObject(
    failure('bad_request', 'without .'),
  );
});

it('passes a merge on, with who asked for it', async () => {
  expect(await client.files.merge.mutate({ fork, into: parent, settle: 'fork' })).toMatchObject({ isMerged: true });
  expect(asked.at(-1)).toMatchObject({ settle: 'fork', dryRun: false, by: expect.any(String), fork: { at: 'now' } });
});
