/** Sandboxes as every dialect uses them: asks passed on to the scheduler, records read from the store, routes learned and forgotten on the way. */
import type { Wire } from '@torpor/bus';
import {
  createSandbox,
  deleteSandbox,
  deleteSnapshot,
  forkSandbox,
  listReceipts,
  listSnapshots,
  makeSnapshot,
  pauseInstance,
  receiptKey,
  restoreSnapshot,
  resumeInstance,
  storeInstance,
  updateSandbox,
  type InstanceState,
  type NodeId,
  type Sandbox,
  type SandboxAsk,
  type SandboxName,
  type SignedReceipt,
  type Snapshot,
  type WorkspaceName,
} from '@torpor/contracts';
import { standingOf } from '@torpor/dialects';
import { Failure, type Clock } from '@torpor/kernel';
import type { Store } from '@torpor/store';
import type { z } from 'zod';
import type { RouteBook } from '../ways/route-book.ts';
import type { Quotas } from './quotas.ts';

type ForkAsk = Omit<z.infer<typeof forkSandbox.request>, 'workspace' | 'name' | 'createdBy'>;
type Change = Omit<z.infer<typeof updateSandbox.request>, 'workspace' | 'name'>;

export interface Sandboxes {
  /** Resolves when it is usable. */
  create(ask: SandboxAsk, traceparent: string): Promise<{ kind: 'created' | 'existing'; sandbox: Sandbox }>;
  /** A living one, or one whose record may still be read. Rejects with `not_found`. */
  get(workspace: WorkspaceName, name: SandboxName): Promise<Sandbox>;
  /** Rejects with `not_found` unless it lives. */
  living(workspace: WorkspaceName, name: SandboxName): Promise<Sandbox>;
  update(workspace: WorkspaceName, name: SandboxName, change: Change, traceparent: string): Promise<Sandbox>;
  delete(workspace: WorkspaceName, name: SandboxName, traceparent: string): Promise<Sandbox>;
  pause(sandbox: Sandbox, traceparent: string): Promise<{ state: InstanceState; tookMs: number }>;
  resume(
    sandbox: Sandbox,
    traceparent: string,
    how?: { readonly filesOnly: boolean },
  ): Promise<z.infer<typeof resumeInstance.reply>>;
  /** Of its last wakes from disk, the oldest first. */
  receipts(sandbox: Sandbox, traceparent: string): Promise<SignedReceipt[]>;
  /** What the node signs them with. */
  receiptKey(nodeId: NodeId, traceparent: string): Promise<string>;
  /** Resolves when its RAM has been let go, or it is known that it was not. */
  store(sandbox: Sandbox, traceparent: string): Promise<z.infer<typeof storeInstance.reply>>;
  /** Resolves when it is whole. */
  snapshot(sandbox: Sandbox, how: { name?: string; by: string }, traceparent: string): Promise<Snapshot>;
  snapshots(sandbox: Sandbox, traceparent: string): Promise<readonly Snapshot[]>;
  /** Back to it in place; `before` is a snapshot of what was there. Snapshots go by id or name. */
  restore(
    sandbox: Sandbox,
    snapshot: string,
    traceparent: string,
  ): Promise<{ snapshot: Snapshot; before?: Snapshot | undefined; tookMs: number }>;
  deleteSnapshot(sandbox: Sandbox, snapshot: string, traceparent: string): Promise<Snapshot>;
  /** Resolves when the fork is usable, with the snapshot that it was made from. */
  fork(
    parent: Sandbox,
    how: ForkAsk & { readonly by: string },
    traceparent: string,
  ): Promise<{ sandbox: Sandbox; snapshot: string }>;
}

export function openSandboxes(parts: {
  wire: Wire;
  store: Store;
  clock: Clock;
  routes: RouteBook;
  quotas: Quotas;
}): Sandboxes {
  const { wire, store, clock, routes, quotas } = parts;

  async function get(workspace: WorkspaceName, name: SandboxName): Promise<Sandbox> {
    const nowMs = clock.nowMs();
    const sandbox = await store.workspace(workspace).sandboxes.get(name, nowMs);
    if (!sandbox) throw noSandbox(workspace, name);
    const standing = standingOf(sandbox, nowMs);
    if (standing.kind === 'ended' && !standing.readable) throw noSandbox(workspace, name);
    return sandbox;
  }

  return {
    get,
    async create(ask, traceparent) {
      const verdict = await quotas.mayCreate(ask);
      if (verdict.kind === 'refused') throw new Failure('too_many_requests', verdict.reason);
      const { kind, sandbox, route } = await wire.ask(createSandbox, ask, { traceparent });
      routes.learn(sandbox, route);
      return { kind, sandbox };
    },
    async living(workspace, name) {
      const sandbox = await get(workspace, name);
      if (standingOf(sandbox, clock.nowMs()).kind === 'ended') throw noSandbox(workspace, name);
      return sandbox;
    },
    async update(workspace, name, change, traceparent) {
      const { sandbox } = await wire.ask(updateSandbox, { workspace, name, ...change }, { traceparent });
      // Its end and, after a restart, its generation may be others now; the next request reads them.
      routes.forget(workspace, name);
      return sandbox;
    },
    async delete(workspace, name, traceparent) {
      const reason = 'asked for';
      const { sandbox } = await wire.ask(deleteSandbox, { workspace, name, reason }, { traceparent });
      routes.forget(workspace, name);
      return sandbox;
    },
    pause: ({ instanceId, generation, nodeId }, traceparent) =>
      wire.ask(pauseInstance, { instanceId, generation }, { node: nodeId, traceparent }),
    resume: ({ instanceId, generation, nodeId }, traceparent, how) =>
      wire.ask(resumeInstance, { instanceId, generation, ...how }, { node: nodeId, traceparent }),
    receipts: async ({ instanceId, generation, nodeId }, traceparent) =>
      (await wire.ask(listReceipts, { instanceId, generation }, { node: nodeId, traceparent })).receipts,
    receiptKey: async (nodeId, traceparent) => (await wire.ask(receiptKey, {}, { node: nodeId, traceparent })).key,
    store: ({ instanceId, generation, nodeId }, traceparent) =>
      wire.ask(storeInstance, { instanceId, generation }, { node: nodeId, traceparent }),
    async snapshot({ instanceId, generation, nodeId }, how, traceparent) {
      const ask = { instanceId, generation, because: 'asked' as const, ...how };
      return (await wire.ask(makeSnapshot, ask, { node: nodeId, traceparent })).snapshot;
    },
    async snapshots({ instanceId, generation, nodeId }, traceparent) {
      return (await wire.ask(listSnapshots, { instanceId, generation }, { node: nodeId, traceparent })).snapshots;
    },
    restore: ({ instanceId, generation, nodeId }, snapshot, traceparent) =>
      wire.ask(restoreSnapshot, { instanceId, generation, snapshot }, { node: nodeId, traceparent }),
    async deleteSnapshot({ instanceId, generation, nodeId }, snapshot, traceparent) {
      const ask = { instanceId, generation, snapshot };
      return (await wire.ask(deleteSnapshot, ask, { node: nodeId, traceparent })).snapshot;
    },
    async fork({ workspace, name }, { by, ...how }, traceparent) {
      const ask = { workspace, name, ...how, createdBy: by };
      const { sandbox, route, snapshot } = await wire.ask(forkSandbox, ask, { traceparent });
      routes.learn(sandbox, route);
      return { sandbox, snapshot };
    },
  };
}

function noSandbox(workspace: WorkspaceName, name: SandboxName): Failure {
  return new Failure('not_found', `there is no sandbox "${name}" in the workspace "${workspace}"`);
}
