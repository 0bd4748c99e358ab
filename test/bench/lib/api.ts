/** Torpor's own API as plain HTTP: what a benchmark needs of it, without its client. */
import { request } from 'undici';
import { patient, type Stack } from './stack.ts';

export interface SandboxFacts {
  readonly name: string;
  readonly url: string;
  readonly instanceId: string;
  readonly generation: number;
  readonly state?: string;
  readonly phase?: string;
  /** The name of its cgroup; a pooled instance was made before it became this sandbox. */
  readonly hostId?: string;
}

export interface SnapshotFacts {
  readonly id: string;
  readonly name?: string;
  readonly state: 'making' | 'ready' | 'failed';
  readonly because: string;
  readonly bytes?: number;
}

/** A sandbox at one point of its life. */
export interface Point {
  readonly name: string;
  readonly at: 'now' | 'last' | 'base' | { readonly snapshot: string };
}

export interface VolumeFacts {
  readonly id: string;
  readonly name: string;
  readonly sizeMib: number;
  readonly usedMib?: number;
  readonly phase: string;
  readonly attachment?: { readonly sandbox: string; readonly path: string; readonly state: string };
}

export interface Api {
  create(input: Record<string, unknown>): Promise<SandboxFacts>;
  get(name: string): Promise<SandboxFacts>;
  pause(name: string): Promise<{ state: string; tookMs: number }>;
  /** Pages it out. `reason`: why it is not lean. */
  lean(name: string): Promise<{ state: string; tookMs: number; reason?: string }>;
  resume(name: string): Promise<{ state: string; tookMs: number }>;
  store(name: string): Promise<{ state: string; tookMs: number; reason?: string }>;
  delete(name: string, how?: { keepSnapshots: boolean }): Promise<SandboxFacts>;
  snapshot(name: string, snapshot: string): Promise<SnapshotFacts>;
  snapshots(name: string): Promise<SnapshotFacts[]>;
  restore(name: string, snapshot: string): Promise<{ before?: SnapshotFacts; tookMs: number }>;
  deleteSnapshot(name: string | undefined, snapshot: string): Promise<SnapshotFacts>;
  diff(what: {
    from: Point;
    to: Point;
    under?: string;
  }): Promise<{ changes: { what: string; path: string }[]; tookMs: number }>;
  merge(what: { fork: string; into: string; settle?: 'fork' | 'here'; dryRun?: boolean; under?: string }): Promise<{
    isMerged: boolean;
    steps: { what: string; path: string }[];
    conflicts: { why: string; path: string }[];
    left: string[];
    before?: { image: string };
  }>;
  history(name: string): Promise<{ what: string; told: string; id?: string }[]>;
  fork(
    name: string | undefined,
    how: { as: string; count: number; snapshot?: string },
  ): Promise<{ forks: SandboxFacts[]; failed: object[]; snapshot: string }>;
  /** The oldest first, as the node signed them. */
  receipts(name: string): Promise<{ signed: string }[]>;
  readonly volumes: {
    create(name: string, how?: { sizeMib?: number; from?: string }): Promise<VolumeFacts>;
    snapshot(name: string, as: string): Promise<VolumeFacts>;
    get(name: string): Promise<VolumeFacts>;
    list(): Promise<VolumeFacts[]>;
    resize(name: string, sizeMib: number): Promise<VolumeFacts>;
    attach(name: string, to: { sandbox: string; path: string }): Promise<VolumeFacts>;
    detach(name: string): Promise<VolumeFacts>;
    delete(name: string): Promise<VolumeFacts>;
  };
  nodes(): Promise<{ id: string; pool: { template: string; ready: number; target: number }[] }[]>;
}

export function api(stack: Stack): Api {
  const mutate = <T>(procedure: string, input: unknown) =>
    call<T>(stack, 'POST', `/trpc/${procedure}`, JSON.stringify(input));
  const query = <T>(procedure: string, input?: unknown) =>
    call<T>(
      stack,
      'GET',
      `/trpc/${procedure}${input === undefined ? '' : `?input=${encodeURIComponent(JSON.stringify(input))}`}`,
    );
  return {
    create: (input) => mutate('sandboxes.create', input),
    get: (name) => query('sandboxes.get', { name }),
    pause: (name) => mutate('sandboxes.pause', { name }),
    lean: (name) => mutate('sandboxes.lean', { name }),
    resume: (name) => mutate('sandboxes.resume', { name }),
    store: (name) => mutate('sandboxes.store', { name }),
    delete: (name, how) => mutate('sandboxes.delete', { name, ...how }),
    snapshot: (name, snapshot) => mutate('snapshots.create', { name, snapshot }),
    snapshots: (name) => query('snapshots.list', { name }),
    restore: (name, snapshot) => mutate('snapshots.restore', { name, snapshot }),
    diff: (what) => mutate('files.diff', what),
    merge: (what) => mutate('files.merge', what),
    history: (name) => query('sandboxes.history', { name }),
    deleteSnapshot: (name, snapshot) => mutate('snapshots.delete', { name, snapshot }),
    fork: (name, how) => mutate('sandboxes.fork', { name, ...how }),
    receipts: (name) => query('receipts.list', { name }),
    volumes: {
      create: (name, how) => mutate('volumes.create', { name, ...how }),
      snapshot: (name, as) => mutate('volumes.snapshot', { name, as }),
      get: (name) => query('volumes.get', { name }),
      list: () => query('volumes.list'),
      resize: (name, sizeMib) => mutate('volumes.resize', { name, sizeMib }),
      attach: (name, to) => mutate('volumes.attach', { name, ...to }),
      detach: (name) => mutate('volumes.detach', { name }),
      delete: (name) => mutate('volumes.delete', { name }),
    },
    nodes: () => query('nodes.list'),
  };
}

async function call<T>(stack: Stack, method: 'GET' | 'POST', path: string, body?: string): Promise<T> {
  const answer = await request(`${stack.url}${path}`, {
    dispatcher: patient,
    method,
    headers: { ...stack.headers, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body }),
  });
  const text = await answer.body.text();
  if (answer.statusCode !== 200)
    throw new Error(`${method} ${path} answered ${answer.statusCode}: ${text.slice(0, 500)}`);
  return (JSON.parse(text) as { result: { data: T } }).result.data; // tRPC's envelope
}
