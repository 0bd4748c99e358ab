/** First-party services (packages/api) bound to one admitted caller. */
import type { ApiContext, EventView, KeyView, SandboxView, Services, SnapshotView } from '@torpor/api';
import { isAsleep, Receipt, type Sandbox, type SandboxAsk } from '@torpor/contracts';
import { DEFAULT_IMAGE, dataPlaneUrl, resolveBlaxelImage, standingOf } from '@torpor/dialects';
import { Failure, type Chance, type Clock } from '@torpor/kernel';
import { mayGrant } from '@torpor/policy';
import {
  mintKey,
  type ApiKey,
  type SandboxShelf,
  type SnapshotRecord,
  type Store,
  type Workspace,
} from '@torpor/store';
import type { Admission, Caller } from '../callers/admission.ts';
import type { Keyring } from '../callers/keyring.ts';
import type { Audit } from '../control/audit.ts';
import { createOnce } from '../sandboxes/create-once.ts';
import type { LiveState, LiveStates } from '../sandboxes/live-states.ts';
import type { Offers } from '../sandboxes/offer.ts';
import { pagesOf } from '../sandboxes/pages.ts';
import type { Sandboxes } from '../sandboxes/sandboxes.ts';
import type { Wire } from '@torpor/bus';
import { diffOf, mergeOf } from './files.ts';
import { forksOf } from './forks.ts';
import { historyOf } from './history.ts';
import type { Nodes } from './nodes.ts';
import { volumeServices } from './volumes.ts';
import { watchEvents } from './watch-events.ts';

export interface ServicesParts {
  readonly wire: Wire;
  readonly sandboxes: Sandboxes;
  readonly nodes: Nodes;
  readonly live: LiveStates;
  readonly offers: Offers;
  readonly store: Store;
  readonly keyring: Keyring;
  readonly admission: Admission;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly chance: Chance;
  readonly publicUrl: string;
}

export interface Asked {
  readonly caller: Caller;
  readonly traceparent: string;
  readonly traceId: string;
}

/** The ledger closes one each minute. */
const STRETCHES_MAX = 5_000;
const TERMINATED_RETENTION_MS = 5 * 60_000;

export function apiContext(parts: ServicesParts, asked: Asked): ApiContext {
  const { key, workspace } = asked.caller;
  return { services: servicesFor(parts, asked), demand: (action) => parts.admission.demand(key, action, workspace) };
}

function servicesFor(parts: ServicesParts, asked: Asked): Services {
  const { store, sandboxes, live, clock } = parts;
  const { key, workspace } = asked.caller;
  const { traceparent, traceId } = asked;
  const shelf = store.workspace(workspace);

  function during<T>(action: string, target: () => string | undefined, work: () => Promise<T>): Promise<T> {
    return parts.audit.during({ workspace, actor: key.subject, action, traceId, target }, work);
  }
  const show = (sandbox: Sandbox, state?: LiveState) => sandboxView(sandbox, parts.publicUrl, state);

  return {
    caller: { workspace, subject: key.subject, role: key.role, ...(key.scopes && { scopes: [...key.scopes] }) },
    sandboxes: {
      create(input) {
        let name: string | undefined = input.name;
        return during(
          'sandbox.create',
          () => name,
          async () => {
            const { idempotencyKey, ...request } = input;
            const about = { workspace, key: idempotencyKey, request, traceparent };
            const { sandbox } = await createOnce(parts, about, () => askOf(parts, asked, input));
            name = sandbox.name;
            return show(sandbox, await live.ask(sandbox, traceparent));
          },
        );
      },
      async get({ name }) {
        const sandbox = await sandboxes.get(workspace, name);
        return show(sandbox, sandbox.phase === 'ready' ? await live.ask(sandbox, traceparent) : undefined);
      },
      async list(input) {
        const query = { limit: input.limit, showTerminated: input.showTerminated, nowMs: clock.nowMs() };
        const page = await shelf.sandboxes.list({
          ...query,
          ...(input.cursor === undefined ? {} : { cursor: input.cursor }),
          ...(input.q === undefined ? {} : { q: input.q }),
        });
        const states = await live.askAll(page.items);
        const items = page.items
          .filter((sandbox) => input.showTerminated || standingOf(sandbox, query.nowMs).kind === 'living')
          .map((sandbox) => show(sandbox, states.get(sandbox.instanceId)));
        return { items, total: page.total, ...(page.nextCursor === undefined ? {} : { nextCursor: page.nextCursor }) };
      },
      async history({ name }) {
        const sandbox = await sandboxes.living(workspace, name);
        const { instanceId } = sandbox;
        const [events, snapshots, receipts, stretches, forks] = await Promise.all([
          sandboxes.events(sandbox, traceparent),
          sandboxes.snapshots(sandbox, traceparent),
          sandboxes.receipts(sandbox, traceparent),
          shelf.usage.stretches({ instanceId, limit: STRETCHES_MAX }),
          shelf.sandboxes.forksOf(instanceId),
        ]);
        const opened = receipts.map(({ signed }) => Receipt.parse(JSON.parse(signed)));
        return historyOf({ sandbox, events, snapshots, receipts: opened, stretches, forks });
      },
      update: ({ name, ...change }) =>
        during(
          'sandbox.update',
          () => name,
          async () => {
            const sandbox = await sandboxes.update(workspace, name, change, traceparent);
            return show(sandbox, await live.ask(sandbox, traceparent));
          },
        ),
      delete: ({ name, keepSnapshots }) =>
        during(
          'sandbox.delete',
          () => name,
          async () => show(await sandboxes.delete(workspace, name, traceparent, { keepSnapshots })),
        ),
      pause: ({ name }) =>
        during(
          'sandbox.pause',
          () => name,
          async () => sandboxes.pause(await sandboxes.living(workspace, name), traceparent),
        ),
      resume: ({ name, filesOnly = false }) =>
        during(
          filesOnly ? 'sandbox.resume.files-only' : 'sandbox.resume',
          () => name,
          async () => {
            const sandbox = await sandboxes.living(workspace, name);
            return sandboxes.resume(sandbox, traceparent, filesOnly ? { filesOnly } : undefined);
          },
        ),
      lean: ({ name }) =>
        during(
          'sandbox.lean',
          () => name,
          async () => sandboxes.lean(await sandboxes.living(workspace, name), traceparent),
        ),
      store: ({ name }) =>
        during(
          'sandbox.store',
          () => name,
          async () => sandboxes.store(await sandboxes.living(workspace, name), traceparent),
        ),
      fork: (input) =>
        during(
          'sandbox.fork',
          () => input.name ?? input.snapshot,
          async () => {
            const { made, ...rest } = await forksOf(sandboxes, asked, input);
            return { ...rest, forks: made.map((sandbox) => show(sandbox)) };
          },
        ),
      move: ({ name, to }) =>
        during(
          'sandbox.move',
          () => name,
          async () => {
            const asked = await sandboxes.living(workspace, name);
            const { sandbox, from, bytes, tookMs } = await sandboxes.move(asked, to, traceparent);
            return { from, to: sandbox.nodeId, bytes, tookMs };
          },
        ),
    },
    receipts: {
      list: async ({ name }) => sandboxes.receipts(await sandboxes.living(workspace, name), traceparent),
      key: async ({ nodeId }) => ({ key: await sandboxes.receiptKey(nodeId, traceparent) }),
    },
    snapshots: {
      create: ({ name, snapshot }) =>
        during(
          'snapshot.create',
          () => name,
          async () => {
            const how = { by: key.subject, ...(snapshot === undefined ? {} : { name: snapshot }) };
            return sandboxes.snapshot(await sandboxes.living(workspace, name), how, traceparent);
          },
        ),
      list: async ({ name }) => {
        if (name === undefined) return (await shelf.snapshots.list()).map(recordView);
        return [...(await sandboxes.snapshots(await sandboxes.living(workspace, name), traceparent))];
      },
      restore: ({ name, snapshot }) =>
        during(
          'snapshot.restore',
          () => name,
          async () => sandboxes.restore(await sandboxes.living(workspace, name), snapshot, traceparent),
        ),
      delete: ({ name, snapshot }) =>
        during(
          'snapshot.delete',
          () => name ?? snapshot,
          async () => {
            const which = { snapshot, ...(name === undefined ? {} : { of: name }) };
            return await sandboxes.dropSnapshot(workspace, which, traceparent);
          },
        ),
    },
    files: {
      diff: (input) => diffOf(parts, asked, input),
      merge: (input) =>
        during(
          'sandbox.merge',
          () => input.into,
          () => mergeOf(parts, asked, input),
        ),
    },
    volumes: volumeServices(parts, asked, during),
    keys: {
      create: (input) =>
        during(
          'key.create',
          () => input.name,
          () => createKey(parts, asked, input),
        ),
      list: async () => (await shelf.keys.list()).map(keyView),
      revoke: ({ id }) =>
        during(
          'key.revoke',
          () => id,
          async () => {
            const revoked = await shelf.keys.revoke(id, clock.nowMs());
            if (!revoked) throw new Failure('not_found', `there is no key "${id}" in the workspace "${workspace}"`);
            parts.keyring.revoked(revoked.prefix);
            return keyView(revoked);
          },
        ),
    },
    nodes: {
      list: () => parts.nodes.list(),
      get: ({ nodeId }) => parts.nodes.get(nodeId, traceparent),
      drain: ({ nodeId }) =>
        during(
          'node.drain',
          () => nodeId,
          () => parts.nodes.drain(nodeId, true, traceparent),
        ),
      undrain: ({ nodeId }) =>
        during(
          'node.undrain',
          () => nodeId,
          () => parts.nodes.drain(nodeId, false, traceparent),
        ),
    },
    workspaces: {
      list: async () =>
        (await store.workspaces.list())
          .filter((each) => key.workspace === undefined || each.name === key.workspace)
          .map(workspaceView),
      setWakeBudget: ({ wakeBudget }) =>
        during(
          'workspace.set-wake-budget',
          () => workspace,
          async () => {
            const changed = await store.workspaces.setWakeBudget(workspace, wakeBudget ?? undefined);
            if (!changed) throw new Failure('not_found', `there is no workspace "${workspace}"`);
            return workspaceView(changed);
          },
        ),
    },
    events: (signal): AsyncIterable<EventView> => watchEvents(live, workspace, signal),
    stats: ({ spanMs }) => statsOf(parts, asked, spanMs),
  };
}

async function askOf(
  parts: ServicesParts,
  { caller }: Asked,
  input: Parameters<Services['sandboxes']['create']>[0],
): Promise<SandboxAsk> {
  const offer = await parts.offers.offer();
  const image = input.image ?? DEFAULT_IMAGE;
  const resolved = resolveBlaxelImage(image, offer.images);
  if (resolved.kind === 'refused') throw new Failure('bad_request', resolved.message);
  const memoryMib = input.memoryMib ?? offer.memoryMibDefault;
  if (memoryMib > offer.memoryMibMax) {
    throw new Failure('bad_request', `memoryMib is ${memoryMib}; expected at most ${offer.memoryMibMax}`);
  }
  return {
    workspace: caller.workspace,
    ...(input.name === undefined ? {} : { name: input.name }),
    reuse: input.reuse && input.name !== undefined,
    template: resolved.template,
    image,
    shape: {
      memoryMib,
      cpus: input.cpus ?? Math.max(0.25, memoryMib / 2048),
      diskMib: input.diskMib ?? offer.diskMib,
      pids: offer.pids,
    },
    env: input.env,
    ports: [],
    labels: input.labels,
    ...(input.displayName === undefined ? {} : { displayName: input.displayName }),
    idle: input.idle ?? offer.idle,
    ...(input.snapshotLimits ? { snapshotLimits: input.snapshotLimits } : {}),
    ...(input.wakeBudget === undefined ? {} : { wakeBudget: input.wakeBudget }),
    expiry: input.expiry,
    terminatedRetentionMs: TERMINATED_RETENTION_MS,
    extra: {},
    ...(input.volumes ? { volumes: input.volumes } : {}),
    createdBy: caller.key.subject,
  };
}

async function createKey(
  { store, chance, clock, keyring }: ServicesParts,
  { caller }: Asked,
  input: Parameters<Services['keys']['create']>[0],
): ReturnType<Services['keys']['create']> {
  const verdict = mayGrant(caller.key, input);
  if (verdict.kind === 'refused') throw new Failure('forbidden', verdict.reason);
  const { text, ...minted } = mintKey(chance);
  const nowMs = clock.nowMs();
  const key = await store.workspace(caller.workspace).keys.create({
    ...minted,
    name: input.name,
    subject: `key:${input.name}`,
    role: input.role,
    ...(input.scopes && { scopes: input.scopes }),
    createdAtMs: nowMs,
    createdBy: caller.key.subject,
    ...(input.lifeMs === undefined ? {} : { expiresAtMs: nowMs + input.lifeMs }),
  });
  keyring.made(key.prefix);
  return { key: keyView(key), text };
}

async function statsOf({ store, live, clock }: ServicesParts, { caller }: Asked, spanMs: number) {
  const nowMs = clock.nowMs();
  const shelf = store.workspace(caller.workspace);
  const [counts, sums] = await Promise.all([
    countsOf(shelf.sandboxes, live, nowMs),
    shelf.usage.sum({ fromMs: nowMs - spanMs, toMs: nowMs }),
  ]);
  const total = (pick: (sum: (typeof sums)[number]) => number) => sums.reduce((so, sum) => so + pick(sum), 0);
  return {
    sandboxes: counts,
    usage: {
      runningMs: total((sum) => (sum.tier === 'running' ? sum.spanMs : 0)),
      pausedMs: total((sum) => (sum.tier === 'paused' ? sum.spanMs : 0)),
      leanMs: total((sum) => (sum.tier === 'lean' ? sum.spanMs : 0)),
      storedMs: total((sum) => (sum.tier === 'stored' ? sum.spanMs : 0)),
      cpuMs: total((sum) => sum.cpuMs),
      memoryMibMs: total((sum) => sum.memoryMibMs),
      egressBytes: total((sum) => sum.egressBytes),
      diskMibMs: total((sum) => sum.diskMibMs),
    },
    wakes: { all: total((sum) => sum.wakes), lost: total((sum) => sum.wakesLost) },
  };
}

/** Those whose node cannot say how they are count as living alone. */
async function countsOf(shelf: SandboxShelf, live: LiveStates, nowMs: number) {
  let [living, running, asleep] = [0, 0, 0];
  for await (const page of pagesOf(shelf, { nowMs })) {
    living = page.total;
    for (const { state } of (await live.askAll(page.items)).values()) {
      if (state === 'running' || state === 'waking' || state === 'restoring') running++;
      if (isAsleep(state)) asleep++;
    }
  }
  return { living, running, asleep };
}

function workspaceView({ name, displayName, wakeBudget, createdAtMs }: Workspace) {
  return { name, displayName, ...(wakeBudget ? { wakeBudget } : {}), createdAtMs };
}

function sandboxView(sandbox: Sandbox, publicUrl: string, live: LiveState | undefined): SandboxView {
  const { ports: _, extra: __, terminatedRetentionMs: ___, updatedAtMs: ____, ...rest } = sandbox;
  const reason = sandbox.reason ?? live?.reason;
  return {
    ...rest,
    ...live,
    ...(reason === undefined ? {} : { reason }),
    lastUsedAtMs: Math.max(sandbox.lastUsedAtMs, live?.lastUsedAtMs ?? 0),
    url: dataPlaneUrl(publicUrl, sandbox.workspace, sandbox.name),
  };
}

function recordView({ id, name, atMs, bytes, by, sandbox, keptSinceMs }: SnapshotRecord): SnapshotView {
  return {
    id,
    because: 'asked',
    state: 'on record',
    atMs,
    of: sandbox.name,
    ...(name === undefined ? {} : { name }),
    ...(bytes === undefined ? {} : { bytes }),
    ...(by === undefined ? {} : { by }),
    ...(keptSinceMs === undefined ? {} : { keptSinceMs }),
  };
}

function keyView(key: ApiKey): KeyView {
  const { id, prefix, name, subject, role, scopes, createdAtMs, expiresAtMs, lastUsedAtMs, revokedAtMs } = key;
  return {
    id,
    prefix,
    name,
    subject,
    role,
    createdAtMs,
    ...(scopes && { scopes: [...scopes] }),
    ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
    ...(lastUsedAtMs === undefined ? {} : { lastUsedAtMs }),
    ...(revokedAtMs === undefined ? {} : { revokedAtMs }),
  };
}
