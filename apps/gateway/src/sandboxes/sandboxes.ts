/** Sandboxes as every dialect uses them: asks passed on to the scheduler, records read from the store, routes learned and forgotten on the way. */
import type { Wire } from '@torpor/bus';
import {
  createSandbox,
  deleteSandbox,
  dropSnapshot,
  forkSandbox,
  listReceipts,
  listSnapshots,
  moveSandbox,
  pauseInstance,
  receiptKey,
  restoreSandbox,
  snapshotSandbox,
  resumeInstance,
  leanInstance,
  storeInstance,
  tellHistory,
  updateSandbox,
  type InstanceEvent,
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
  delete(
    workspace: WorkspaceName,
    name: SandboxName,
    traceparent: string,
    how?: { readonly keepSnapshots: boolean },
  ): Promise<Sandbox>;
  pause(sandbox: Sandbox, traceparent: string): Promise<{ state: InstanceState; tookMs: number }>;
  resume(
    sandbox: Sandbox,
    traceparent: string,
    how?: { readonly filesOnly: boolean },
  ): Promise<z.infer<typeof resumeInstance.reply>>;
  /** What its node has written down of it. */
  events(sandbox: Sandbox, traceparent: string): Promise<InstanceEvent[]>;
  /** Of its last wakes from disk, the oldest first. */
  receipts(sandbox: Sandbox, traceparent: string): Promise<SignedReceipt[]>;
  /** What the node signs them with. */
  receiptKey(nodeId: NodeId, traceparent: string): Promise<string>;
  /** Resolves when its RAM has been let go, or it is known that it was not. */
  lean(sandbox: Sandbox, traceparent: string): Promise<z.infer<typeof leanInstance.reply>>;
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
  /** Without `of`, one of the workspace's by its id, whose sandbox may have ended. */
  dropSnapshot(
    workspace: WorkspaceName,
    which: { of?: SandboxName; snapshot: string },
    traceparent: string,
  ): Promise<Snapshot>;
  /** Resolves when the fork is usable, with the snapshot that it was made from. Without `of`, of a snapshot by its id, whose sandbox may have ended. */
  fork(
    workspace: WorkspaceName,
    how: ForkAsk & { readonly of?: SandboxName; readonly by: string },
    traceparent: string,
  ): Promise<{ sandbox: Sandbox; snapshot: string }>;
  /** Resolves when it lives on another node. */
  move(sandbox: Sandbox, to: NodeId | undefined, traceparent: string): Promise<z.infer<typeof moveSandbox.reply>>;
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
    async delete(workspace, name, traceparent, { keepSnapshots } = { keepSnapshots: false }) {
      const ask = { workspace, name, reason: 'asked for', keepSnapshots };
      const { sandbox } = await wire.ask(deleteSandbox, ask, { traceparent });
      routes.forget(workspace, name);
      return sandbox;
    },
    pause: ({ instanceId, generation, nodeId }, traceparent) =>
      wire.ask(pauseInstance, { instanceId, generation }, { node: nodeId, traceparent }),
    resume: ({ instanceId, generation, nodeId }, traceparent, how) =>
      wire.ask(resumeInstance, { instanceId, generation, ...how }, { node: nodeId, traceparent }),
    events: async ({ instanceId, generation, nodeId }, traceparent) =>
      (await wire.ask(tellHistory, { instanceId, generation }, { node: nodeId, traceparent })).events,
    receipts: async ({ instanceId, generation, nodeId }, traceparent) =>
      (await wire.ask(listReceipts, { instanceId, generation }, { node: nodeId, traceparent })).receipts,
    receiptKey: async (nodeId, traceparent) => (await wire.ask(receiptKey, {}, { node: nodeId, traceparent })).key,
    lean: ({ instanceId, generation, nodeId }, traceparent) =>
      wire.ask(leanInstance, { instanceId, generation }, { node: nodeId, traceparent }),
    store: ({ instanceId, generation, nodeId }, traceparent) =>
      wire.ask(storeInstance, { instanceId, generation }, { node: nodeId, traceparent }),
    async snapshot({ workspace, name }, { by, name: called }, traceparent) {
      const ask = { workspace, name, by, ...(called === undefined ? {} : { snapshot: called }) };
      return (await wire.ask(snapshotSandbox, ask, { traceparent })).snapshot;
    },
    async snapshots({ instanceId, generation, nodeId }, traceparent) {
      return (await wire.ask(listSnapshots, { instanceId, generation }, { node: nodeId, traceparent })).snapshots;
    },
    async restore({ workspace, name }, snapshot, traceparent) {
      const asked = wire.ask(restoreSandbox, { workspace, name, snapshot }, { traceparent });
      // Whatever became of it, the generation may be another now.
      const { sandbox, route, ...restored } = await asked.finally(() => routes.forget(workspace, name));
      routes.learn(sandbox, route);
      return restored;
    },
    async dropSnapshot(workspace, { of, snapshot }, traceparent) {
      const ask = { workspace, snapshot, ...(of === undefined ? {} : { name: of }) };
      return (await wire.ask(dropSnapshot, ask, { traceparent })).snapshot;
    },
    async fork(workspace, { by, of, ...how }, traceparent) {
      const ask = { workspace, ...(of === undefined ? {} : { name: of }), ...how, createdBy: by };
      const { sandbox, route, snapshot } = await wire.ask(forkSandbox, ask, { traceparent });
      routes.learn(sandbox, route);
      return { sandbox, snapshot };
    },
    async move({ workspace, name }, to, traceparent) {
      const ask = { workspace, name, ...(to === undefined ? {} : { to }) };
      const moved = await wire.ask(moveSandbox, ask, { traceparent });
      routes.learn(moved.sandbox, moved.route);
      return moved;
    },
  };
}

function noSandbox(workspace: WorkspaceName, name: SandboxName): Failure {
  return new Failure('not_found', `there is no sandbox "${name}" in the workspace "${workspace}"`);
}
