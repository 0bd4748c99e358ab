/** What the parts of the conformance suite share: the store under test, and things to put into it that no other test has. */
import { Generation, InstanceId, NodeId, SandboxName, WorkspaceName, type Sandbox } from '@torpor/contracts';
import { afterAll, beforeAll, expect } from 'vitest';
import type { NodeRecord, Store } from '../store.ts';

export const T = 1_800_000_000_000;

export interface Stage {
  readonly store: Store;
  /** No other test has it. */
  word(prefix: string): string;
  /** Of a workspace of its own. */
  fresh(): ReturnType<Store['workspace']>;
  sandboxIn(workspace: WorkspaceName, more?: Partial<Sandbox>): Sandbox;
  insert(sandbox: Sandbox, env?: Record<string, string>): Promise<Sandbox>;
  ready(sandbox: Sandbox): Promise<Sandbox>;
  /** The incarnation that follows. */
  next(sandbox: Sandbox): Pick<Sandbox, 'instanceId' | 'generation'>;
}

/** To be called within a `describe`: the store opens before its tests and closes after them. Its fleet is `node-a` and `node-b`. */
export function openStage(open: () => Promise<Store>): Stage {
  let opened: Store | undefined;
  let turn = 0;
  const stage: Stage = {
    get store() {
      if (!opened) throw new Error('the store opens with the first test');
      return opened;
    },
    word: (prefix) => `${prefix}${(turn += 1)}`,
    fresh: () => stage.store.workspace(WorkspaceName.parse(stage.word('ws-'))),
    sandboxIn: (workspace, more = {}) => ({
      instanceId: InstanceId.parse(stage.word('instance')),
      workspace,
      name: SandboxName.parse(stage.word('box-')),
      generation: Generation.parse(1),
      nodeId: NodeId.parse('node-a'),
      phase: 'creating',
      labels: {},
      template: 'base',
      image: 'blaxel/base-image:latest',
      shape: { memoryMib: 512, cpus: 1, diskMib: 1024, pids: 256 },
      ports: [{ target: 3000, protocol: 'HTTP' }],
      envNames: [],
      idle: { kind: 'after', idleMs: 15_000 },
      expiry: {},
      terminatedRetentionMs: 60_000,
      extra: { region: 'home' },
      createdAtMs: T,
      updatedAtMs: T,
      lastUsedAtMs: T,
      createdBy: 'user:ada',
      ...more,
    }),
    insert: async (sandbox, env = {}) => {
      expect(await stage.store.wanted.insert(sandbox, env)).toEqual({ kind: 'inserted' });
      return sandbox;
    },
    ready: async (sandbox) => {
      await stage.insert(sandbox);
      await stage.store.wanted.becameReady(sandbox, T);
      return sandbox;
    },
    next: (sandbox) => ({
      instanceId: InstanceId.parse(stage.word('instance')),
      generation: Generation.parse(sandbox.generation + 1),
    }),
  };
  beforeAll(async () => {
    opened = await open();
    await opened.fleet.heard(node('node-a'));
    await opened.fleet.heard(node('node-b'));
  });
  afterAll(() => opened?.close());
  return stage;
}

export function node(id: string): NodeRecord {
  return {
    id: NodeId.parse(id),
    url: `http://${id}:1`,
    isolation: 'none',
    templates: ['base'],
    capacity: { memoryMib: 1000, memoryFreeMib: 900.5, diskFreeMib: 5, slotsFree: 3 },
    pool: [{ template: 'base', shape: { memoryMib: 512, cpus: 1, diskMib: 1024, pids: 256 }, ready: 1, target: 2 }],
    heardAtMs: T,
    leaseUntilMs: 0,
  };
}
