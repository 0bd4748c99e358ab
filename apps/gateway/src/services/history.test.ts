import {
  Generation,
  InstanceId,
  NodeId,
  SandboxName,
  WorkspaceName,
  type Receipt,
  type Sandbox,
} from '@torpor/contracts';
import { expect, it } from 'vitest';
import { historyOf } from './history.ts';

const sandbox: Sandbox = {
  instanceId: InstanceId.parse('iaaaaaaaaaaa'),
  workspace: WorkspaceName.parse('main'),
  name: SandboxName.parse('box'),
  generation: Generation.parse(1),
  nodeId: NodeId.parse('n1'),
  phase: 'ready',
  labels: {},
  template: 'base',
  image: 'base',
  shape: { memoryMib: 512, cpus: 1, diskMib: 512, pids: 64 },
  ports: [],
  envNames: [],
  idle: { kind: 'never' },
  expiry: {},
  terminatedRetentionMs: 0,
  extra: {},
  createdAtMs: 0,
  updatedAtMs: 0,
  lastUsedAtMs: 0,
  createdBy: 'test',
};
const nothing = { sandbox, events: [], snapshots: [], receipts: [], stretches: [], forks: [] };
const receipt = (more: Partial<Receipt>): Receipt => ({
  version: 1,
  nodeId: sandbox.nodeId,
  workspace: sandbox.workspace,
  name: sandbox.name,
  instanceId: sandbox.instanceId,
  generation: sandbox.generation,
  wokeAtMs: 60,
  tier: 'stored',
  tookMs: 120,
  verdict: 'whole',
  refused: [],
  checks: [],
  ...more,
});
const told = (known: Parameters<typeof historyOf>[0]) =>
  historyOf(known).map(({ atMs, told: text }) => `${atMs} ${text}`);

it('begins with its birth, or with what it was forked from', () => {
  expect(told(nothing)).toEqual(['0 created']);
  const origin = { instanceId: sandbox.instanceId, name: SandboxName.parse('parent'), snapshot: 'h-1' };
  expect(told({ ...nothing, sandbox: { ...sandbox, origin } })).toEqual(['0 forked from parent (h-1)']);
});

it('tells sleeps by tier, joined over the minutes that the ledger books, and wakes from RAM', () => {
  const stretches = [
    { tier: 'running', fromMs: 0, toMs: 10_000 },
    { tier: 'paused', fromMs: 10_000, toMs: 70_000 },
    { tier: 'paused', fromMs: 70_000, toMs: 90_000 },
    { tier: 'running', fromMs: 90_000, toMs: 100_000 },
    { tier: 'paused', fromMs: 100_000, toMs: 110_000 },
    { tier: 'stored', fromMs: 110_000, toMs: 120_000 },
  ] as const;
  expect(told({ ...nothing, stretches })).toEqual([
    '0 created',
    '10000 fell asleep in RAM',
    '90000 woke from RAM',
    '100000 fell asleep in RAM',
    '110000 slept on the disk',
  ]);
});

it('tells of a sandbox that was paged out, and woke from there', () => {
  const stretches = [
    { tier: 'paused', fromMs: 10_000, toMs: 70_000 },
    { tier: 'lean', fromMs: 70_000, toMs: 90_000 },
    { tier: 'running', fromMs: 90_000, toMs: 100_000 },
  ] as const;
  expect(told({ ...nothing, stretches })).toEqual([
    '0 created',
    '10000 fell asleep in RAM',
    '70000 was paged out, asleep: its memory went to swap',
    '90000 woke, paged out as it was',
  ]);
});

it('gives the id of what can be gone back to, and only of that', () => {
  const events = [
    { atMs: 20, what: 'stored', image: 'h-1', bytes: 2 ** 20 },
    { atMs: 30, what: 'snapshot', image: 'h-2' },
    { atMs: 40, what: 'let go', image: 'h-3' },
  ] as const;
  const ready = { because: 'asked', state: 'ready', atMs: 30 } as const;
  const snapshots = [{ id: 'h-2', name: 'then', ...ready }];
  expect(historyOf({ ...nothing, events, snapshots })).toMatchObject([
    { told: 'created' },
    { told: 'stored, 1.0 MiB' },
    { told: 'snapshot "then"', id: 'h-2' },
    { told: 'the snapshot h-3 was let go' },
  ]);
  expect(historyOf({ ...nothing, events, snapshots })[1]).not.toHaveProperty('id');
});

it('calls a loss a loss', () => {
  const events = [{ atMs: 50, what: 'died', reason: 'killed' }] as const;
  const receipts = [
    receipt({}),
    receipt({ wokeAtMs: 70, tier: 'files', verdict: 'fell back', lost: 'its memory was lost' }),
  ];
  expect(historyOf({ ...nothing, events, receipts }).map(({ what, told: text }) => `${what}: ${text}`)).toEqual([
    'created: created',
    'lost: its process ended: killed',
    'woke: woke from the disk in 120 ms, receipt: whole',
    'lost: woke from its files alone in 120 ms, receipt: fell back; its memory was lost',
  ]);
});
