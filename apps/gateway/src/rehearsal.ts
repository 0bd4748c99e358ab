/**
 * For tests: a whole gateway in this process, on a store and a wire in memory, with a scheduler that says yes and a node that is a small HTTP server
 * of the test's own making.
 */
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { MemoryBus, type Wire } from '@torpor/bus';
import {
  createSandbox,
  deleteSandbox,
  deleteSnapshot,
  dropSnapshot,
  describeInstance,
  forkSandbox,
  Generation,
  listReceipts,
  listSnapshots,
  makeSnapshot,
  newInstanceId,
  NodeId,
  restoreSandbox,
  restoreSnapshot,
  snapshotSandbox,
  tellHistory,
  SandboxName,
  updateSandbox,
  WorkspaceName,
  type InstanceReport,
  type Sandbox,
  type SandboxAsk,
  type Snapshot,
} from '@torpor/contracts';
import { Failure, Lifetime, randomWord, systemChance, systemClock } from '@torpor/kernel';
import { memoryStore, type NodeRecord, type Store } from '@torpor/store';
import { silentTelemetry } from '@torpor/telemetry';
import { bootstrap } from './bootstrap.ts';
import { openGateway, type Gateway, type GatewayParts } from './gateway.ts';

export interface Rehearsal {
  readonly gateway: Gateway;
  readonly store: Store;
  readonly bus: MemoryBus;
  /** The gateway's own end. */
  readonly wire: Wire;
  readonly apiKey: string;
  readonly workspace: WorkspaceName;
  readonly url: string;
  /** What the node was sent, in order. */
  readonly seen: { method: string; url: string; headers: IncomingMessage['headers'] }[];
  /** The node's way to answer; replaced at will. */
  answer: RequestListener;
  /** What the node says of every instance, over what it says by itself. */
  reported: Partial<InstanceReport>;
  readonly nodeServer: Server;
  readonly nodeUrl: string;
  call(path: string, init?: RequestInit & { key?: string | undefined }): Promise<Response>;
  /** Puts a ready sandbox straight into the store. */
  plant(name: string, more?: { workspace?: WorkspaceName; nodeId?: NodeId }): Promise<Sandbox>;
  close(): Promise<void>;
}

export const NODE = NodeId.parse('node-1');

export async function rehearse({
  store = memoryStore(),
  ...more
}: Pick<Partial<GatewayParts>, 'limits' | 'quotas' | 'store' | 'clock'> = {}): Promise<Rehearsal> {
  const lifetime = new Lifetime();
  const bus = new MemoryBus();
  const seen: Rehearsal['seen'] = [];
  const nodeServer = createServer((request, response) => {
    seen.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers });
    rehearsal.answer(request, response);
  });
  await new Promise<void>((resolve) => nodeServer.listen(0, '127.0.0.1', resolve));
  lifetime.own('the node', () => {
    nodeServer.closeAllConnections();
    nodeServer.close();
  });
  const nodeUrl = `http://127.0.0.1:${portOf(nodeServer)}`;
  await hearOf(store, NODE, nodeUrl);
  await serveScheduler(bus.as('scheduler'), store, nodeUrl);
  await serveTimeTravel(bus.as('scheduler'), store);
  await serveNode(bus.as('node'), () => rehearsal.reported);

  const workspace = WorkspaceName.parse('main');
  const parts = { store, clock: systemClock, chance: systemChance };
  const { apiKey = '' } = await bootstrap(parts, { workspace, keyName: 'first', newKey: false });
  const wire = bus.as('gateway');
  const gateway = await openGateway({
    ...parts,
    ...more,
    wire,
    telemetry: silentTelemetry(),
    config: {
      listen: { host: '127.0.0.1', port: 0 },
      observe: { host: '127.0.0.1', port: 0 },
      publicUrl: 'http://gateway.test',
    },
    secrets: { dataKey: 'the data key', sealingKey: Buffer.alloc(32).toString('base64') },
  });
  lifetime.own('the gateway', () => gateway.close());
  const url = `http://127.0.0.1:${gateway.port}`;

  const rehearsal: Rehearsal = {
    gateway,
    store,
    bus,
    wire,
    apiKey,
    workspace,
    url,
    seen,
    nodeServer,
    nodeUrl,
    answer: (_request, response) => response.end('from the node'),
    reported: {},
    call: (path, { key = apiKey, headers, ...init } = {}) =>
      fetch(url + path, {
        redirect: 'manual',
        ...init,
        headers: {
          ...(key === '' ? {} : { 'x-blaxel-authorization': `Bearer ${key}` }),
          ...Object.fromEntries(new Headers(headers)),
        },
      }),
    plant: (name, at) => plant(store, SandboxName.parse(name), at?.workspace ?? workspace, at?.nodeId ?? NODE),
    close: () => lifetime.close(),
  };
  return rehearsal;
}

export function portOf(server: Server): number {
  return (server.address() as AddressInfo).port; // a TCP server's address is never a pipe's name
}

export function hearOf(store: Store, id: NodeId, url: string, more: Partial<NodeRecord> = {}): Promise<void> {
  return store.fleet.heard({
    id,
    url,
    isolation: 'none',
    templates: ['base', 'blaxel/base-image'],
    capacity: { memoryMib: 8_192, memoryFreeMib: 8_192, diskFreeMib: 8_192, slotsFree: 100 },
    pool: [],
    heardAtMs: Date.now(),
    leaseUntilMs: Date.now() + 3_600_000, // longer than any test: nobody here beats
    ...more,
  });
}

export async function plant(
  store: Store,
  name: SandboxName,
  workspace: WorkspaceName,
  nodeId: NodeId,
): Promise<Sandbox> {
  const ask: SandboxAsk = {
    workspace,
    name,
    reuse: false,
    template: 'base',
    image: 'blaxel/base-image:latest',
    shape: { memoryMib: 512, cpus: 1, diskMib: 512, pids: 64 },
    env: {},
    ports: [],
    labels: {},
    idle: { kind: 'never' },
    expiry: {},
    terminatedRetentionMs: 300_000,
    extra: {},
    createdBy: 'test',
  };
  const made = await insert(store, ask, nodeId);
  if (made.kind === 'taken') throw new Error(`${name} is there already`);
  return made.sandbox;
}

async function insert(store: Store, ask: SandboxAsk & Pick<Sandbox, 'origin'>, nodeId: NodeId) {
  const { reuse: _, env, ...rest } = ask;
  const atMs = Date.now();
  const creating: Sandbox = {
    ...rest,
    name: ask.name ?? SandboxName.parse(`sbx-${randomWord(systemChance, 8)}`),
    instanceId: newInstanceId(systemChance),
    generation: Generation.parse(1),
    nodeId,
    phase: 'creating',
    envNames: Object.keys(env),
    createdAtMs: atMs,
    updatedAtMs: atMs,
    lastUsedAtMs: atMs,
  };
  const inserted = await store.wanted.insert(creating, env);
  if (inserted.kind === 'taken') return { kind: 'taken' as const, sandbox: inserted.sandbox };
  const sandbox = (await store.wanted.becameReady(creating, atMs)) ?? creating;
  return { kind: 'inserted' as const, sandbox };
}

/** As much of a scheduler as the gateway's tests need. */
async function serveScheduler(scheduler: Wire, store: Store, nodeUrl: string): Promise<void> {
  await scheduler.serve(createSandbox, async (ask) => {
    const { kind, sandbox } = await insert(store, ask, NODE);
    if (kind === 'taken' && !ask.reuse) throw new Failure('conflict', `the sandbox "${sandbox.name}" exists already`);
    const { instanceId, generation, nodeId } = sandbox;
    return {
      kind: kind === 'taken' ? 'existing' : 'created',
      sandbox,
      route: { instanceId, generation, nodeId, nodeUrl },
    };
  });
  await scheduler.serve(updateSandbox, async ({ workspace, name, ...change }) => {
    const fields = definedOnly({ ...change, env: undefined });
    const sandbox = await store.wanted.revise(workspace, name, fields, Date.now());
    if (!sandbox) throw new Failure('not_found', `there is no sandbox "${name}"`);
    return { sandbox };
  });
  await scheduler.serve(deleteSandbox, async ({ workspace, name, reason, keepSnapshots = false }) => {
    const sandbox = await store.wanted.terminate(workspace, name, { reason, atMs: Date.now(), keepSnapshots });
    if (!sandbox) throw new Failure('not_found', `there is no sandbox "${name}"`);
    return { sandbox };
  });
  await scheduler.serve(forkSandbox, async ({ workspace, name, as, snapshot = 'made-1', env, createdBy }) => {
    const record = await store.snapshots.find(workspace, snapshot);
    const parent = name === undefined ? record?.sandbox : await store.wanted.living(workspace, name);
    if (!parent) throw new Failure('not_found', `there is no sandbox "${name}"`);
    const { instanceId, template, image, shape, ports, labels, idle, expiry, terminatedRetentionMs, extra } = parent;
    const kept = { template, image, shape, ports, labels, idle, expiry, terminatedRetentionMs, extra };
    const ask = { workspace, ...(as ? { name: as } : {}), reuse: false, ...kept, env, createdBy };
    const made = await insert(store, { ...ask, origin: { instanceId, name: parent.name, snapshot } }, NODE);
    if (made.kind === 'taken') throw new Failure('conflict', `the sandbox "${as}" exists already`);
    const { sandbox } = made;
    const route = { instanceId: sandbox.instanceId, generation: sandbox.generation, nodeId: NODE, nodeUrl };
    return { sandbox, route, snapshot };
  });
}

async function serveTimeTravel(scheduler: Wire, store: Store): Promise<void> {
  await scheduler.serve(snapshotSandbox, async ({ workspace, name, snapshot: called, by }) => {
    const sandbox = await store.wanted.living(workspace, name);
    if (!sandbox) throw new Failure('not_found', `there is no sandbox "${name}"`);
    const { instanceId, generation } = sandbox;
    const ask = { instanceId, generation, because: 'asked' as const, by, ...(called ? { name: called } : {}) };
    const { snapshot } = await scheduler.ask(makeSnapshot, ask, { node: NODE });
    const { id, atMs } = snapshot;
    await store.snapshots.put({ id, atMs, sandbox, by, ...(called ? { name: called } : {}) });
    return { snapshot };
  });
  await scheduler.serve(dropSnapshot, async ({ workspace, name, snapshot }) => {
    const record = await store.snapshots.find(workspace, snapshot);
    const sandbox = name === undefined ? record?.sandbox : await store.wanted.living(workspace, name);
    if (!sandbox) throw new Failure('not_found', `there is no snapshot "${snapshot}"`);
    const { instanceId, generation } = sandbox;
    const gone = await scheduler.ask(deleteSnapshot, { instanceId, generation, snapshot }, { node: NODE });
    await store.snapshots.drop(workspace, gone.snapshot.id);
    return gone;
  });
  await scheduler.serve(restoreSandbox, async ({ workspace, name, snapshot }) => {
    const before = await store.wanted.living(workspace, name);
    if (!before) throw new Failure('not_found', `there is no sandbox "${name}"`);
    const generation = Generation.parse(before.generation + 1);
    const sandbox = await store.wanted.raise(before, { generation, atMs: Date.now() });
    const way = await store.workspace(workspace).sandboxes.routeOf(name);
    if (!sandbox || !way) throw new Failure('conflict', 'it is not ready');
    const { instanceId } = sandbox;
    const restored = await scheduler.ask(restoreSnapshot, { instanceId, generation, snapshot }, { node: NODE });
    return { sandbox, route: way.route, ...restored };
  });
}

async function serveNode(node: Wire, reported: () => Rehearsal['reported']): Promise<void> {
  await serveSnapshots(node);
  await node.serve(
    describeInstance,
    async ({ instanceId }) => ({
      instance: {
        instanceId,
        generation: Generation.parse(1),
        workspace: WorkspaceName.parse('main'),
        name: SandboxName.parse('any'),
        state: 'paused' as const,
        isolation: 'none' as const,
        lastUsedAtMs: 1_000,
        because: 'idle',
        ...reported(),
      },
    }),
    { node: NODE },
  );
}

/** Snapshots that hold nothing. */
async function serveSnapshots(node: Wire): Promise<void> {
  const kept = new Map<string, Snapshot[]>();
  let made = 0;
  const of = (instanceId: string) => kept.get(instanceId) ?? [];
  const known = ({ instanceId, snapshot }: { instanceId: string; snapshot: string }) => {
    const found = of(instanceId).find(({ id, name }) => id === snapshot || name === snapshot);
    if (!found) throw new Failure('not_found', `this sandbox has no snapshot "${snapshot}"`);
    return found;
  };
  const at = { node: NODE };
  await node.serve(
    makeSnapshot,
    async ({ instanceId, because, name, by }) => {
      const given = { ...(name ? { name } : {}), ...(by ? { by } : {}) };
      made += 1;
      const id = `made-${made}`;
      const snapshot = { id, ...given, because, state: 'ready' as const, atMs: Date.now(), bytes: 1_048_576 };
      kept.set(instanceId, [...of(instanceId), snapshot]);
      return { snapshot };
    },
    at,
  );
  await node.serve(
    tellHistory,
    async () => ({ events: [{ atMs: 1_000, what: 'stored' as const, image: 'slept-in' }] }),
    at,
  );
  await node.serve(listReceipts, async () => ({ receipts: [] }), at);
  await node.serve(listSnapshots, async ({ instanceId }) => ({ snapshots: of(instanceId) }), at);
  await node.serve(restoreSnapshot, async (ask) => ({ snapshot: known(ask), tookMs: 1 }), at);
  await node.serve(
    deleteSnapshot,
    async (ask) => {
      const snapshot = known(ask);
      kept.set(
        ask.instanceId,
        of(ask.instanceId).filter((one) => one !== snapshot),
      );
      return { snapshot };
    },
    at,
  );
}

// The wire's shapes say `T | undefined` where the store says "absent".
function definedOnly<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as never; // exactly the fields that are defined
}
