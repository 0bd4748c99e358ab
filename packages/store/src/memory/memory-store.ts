import type { InstanceId, UsageInterval, WorkspaceName } from '@torpor/contracts';
import { bodyOf, CHAIN_START, countOld, firstBroken, linkHash } from '../audit-chain.ts';
import type { ApiKey, NewApiKey } from '../keys.ts';
import type {
  AuditLog,
  AuditRow,
  IdempotencyShelf,
  KeyRing,
  Move,
  NodeRecord,
  SecretShelf,
  Store,
  UsageBook,
  UsageSum,
  Workspace,
  WorkspaceStore,
} from '../store.ts';
import { memoryMoves } from './moves.ts';
import { PreviewRows } from './previews.ts';
import { SnapshotRows } from './snapshots.ts';
import { SandboxRows } from './sandboxes.ts';
import { VolumeRows } from './volumes.ts';

/** A store that forgets when the process ends: for tests and the simulator. Each call is one commit; nothing is sealed, as nothing is written down. */
export function memoryStore(): Store {
  const nodes = new Map<string, NodeRecord>();
  const previews = new PreviewRows();
  const snapshots = new SnapshotRows();
  const volumes = new VolumeRows({
    hasEnded: (instanceId) => sandboxes.hasEnded(instanceId),
    isMoving: (instanceId) => moves.has(instanceId),
    nodeOf: (instanceId) => sandboxes.nodeOf(instanceId),
  });
  const workspaces = new Map<string, Workspace>();
  const moves = new Map<InstanceId, Move>();
  const sandboxes: SandboxRows = new SandboxRows(nodes, {
    previewsGo: (workspace, name) => previews.dropOf(workspace, name),
    snapshotsStay: (instanceId, atMs) => snapshots.keepOf(instanceId, atMs),
    budgetOf: (workspace) => workspaces.get(workspace)?.wakeBudget,
    isMoving: (instanceId) => moves.has(instanceId),
    snapshotsMove: (instanceId, to) => snapshots.moveOf(instanceId, to),
    superseded: (from, to, atMs) => volumes.carry(from, to, atMs),
    hasVolumes: (instanceId) => volumes.has(instanceId),
  });
  const keys = keyRows();
  const usage = usageRows(sandboxes, volumes);
  const audit = auditRows();
  const secrets = new Map<string, SecretShelf>();
  const idempotency = idempotencyRows();
  return {
    workspace: (name): WorkspaceStore => ({
      name,
      sandboxes: sandboxes.shelf(name),
      previews: previews.shelf(name, sandboxes),
      volumes: volumes.shelf(name),
      keys: keys.shelf(name),
      secrets: pick(secrets, name, secretShelf),
      snapshots: { list: () => snapshots.list(name, sandboxes) },
      usage: {
        sum: async (span) => usage.sum(name, span),
        stretches: async (of) => usage.stretches(name, of),
      },
      audit: { list: async (query) => audit.list(name, query) },
      idempotency: idempotency.shelf(name),
    }),
    workspaces: {
      list: async () => [...workspaces.values()],
      get: async (name) => workspaces.get(name),
      create: async (workspace) => {
        const there = workspaces.get(workspace.name);
        if (there) return { kind: 'taken', workspace: there };
        workspaces.set(workspace.name, workspace);
        return { kind: 'created', workspace };
      },
      setWakeBudget: async (name, budget) => {
        const there = workspaces.get(name);
        if (!there) return undefined;
        const { wakeBudget: _, ...rest } = there;
        const now = budget ? { ...rest, wakeBudget: budget } : rest;
        workspaces.set(name, now);
        return now;
      },
    },
    keys: keys.ring,
    publicPreviews: { find: async (id) => previews.find(id, sandboxes) },
    fleet: {
      heard: async (node) => {
        const before = nodes.get(node.id);
        const draining = before?.drainingSinceMs === undefined ? {} : { drainingSinceMs: before.drainingSinceMs };
        if (!before || before.heardAtMs <= node.heardAtMs) nodes.set(node.id, { ...node, ...draining });
      },
      get: async (id) => nodes.get(id),
      list: async () => [...nodes.values()],
      drain: async (id, sinceMs) => {
        const node = nodes.get(id);
        if (!node) return false;
        const { drainingSinceMs: _, ...rest } = node;
        nodes.set(id, { ...rest, ...(sinceMs === undefined ? {} : { drainingSinceMs: sinceMs }) });
        return true;
      },
    },
    moves: memoryMoves(sandboxes.movable, moves),
    wanted: Object.assign(sandboxes, {
      sweep: async (at: { nowMs: number; endedBeforeMs: number }) =>
        sandboxes.forget(at) + snapshots.forget(sandboxes) + idempotency.forget(at.nowMs),
    }),
    snapshots: snapshots.book(sandboxes),
    volumes,
    usage: usage.book,
    audit: audit.log,
    ping: async () => {},
    close: async () => {},
  };
}

function keyRows(): { ring: KeyRing; shelf: (workspace: WorkspaceName) => WorkspaceStore['keys'] } {
  const rows = new Map<string, { key: ApiKey; secretHash: Uint8Array }>();
  const of = (workspace?: WorkspaceName) =>
    [...rows.values()].map((row) => row.key).filter((key) => key.workspace === workspace);
  const create = async ({ secretHash, ...rest }: NewApiKey, workspace?: WorkspaceName) => {
    const key: ApiKey = workspace ? { ...rest, workspace } : rest;
    rows.set(key.id, { key, secretHash });
    return key;
  };
  const change = (id: string, revised: (key: ApiKey) => ApiKey) => {
    const row = rows.get(id);
    if (row) row.key = revised(row.key);
    return row?.key;
  };
  const revoke = async (id: string, atMs: number, workspace?: WorkspaceName) =>
    rows.get(id)?.key.workspace === workspace
      ? change(id, (key) => ({ ...key, revokedAtMs: key.revokedAtMs ?? atMs }))
      : undefined;
  return {
    ring: {
      findByPrefix: async (prefix) => [...rows.values()].find((row) => row.key.prefix === prefix),
      createPersonal: (key) => create(key),
      listPersonal: async () => of(),
      revokePersonal: (id, atMs) => revoke(id, atMs),
      noteUse: async (uses) => {
        for (const { id, atMs } of uses) {
          change(id, (key) => ({ ...key, lastUsedAtMs: Math.max(key.lastUsedAtMs ?? 0, atMs) }));
        }
      },
    },
    shelf: (workspace) => ({
      list: async () => of(workspace),
      create: (key) => create(key, workspace),
      revoke: (id, atMs) => revoke(id, atMs, workspace),
    }),
  };
}

const NOTHING_USED = { spanMs: 0, cpuMs: 0, memoryMibMs: 0, egressBytes: 0, diskMibMs: 0, wakes: 0, wakesLost: 0 };

function usageRows(sandboxes: SandboxRows, volumes: VolumeRows) {
  const rows = new Map<string, UsageInterval>();
  const book: UsageBook = {
    book: async (nodeId, intervals) => {
      const isLawful = (one: UsageInterval) => {
        const at = { nodeId, workspace: one.workspace };
        return one.tier === 'volume' ? volumes.isOn(one.instanceId, at) : sandboxes.ran(one, at);
      };
      const before = rows.size;
      for (const one of intervals.filter(isLawful)) {
        const key = `${one.instanceId}/${one.generation}/${one.sequence}`;
        if (!rows.has(key)) rows.set(key, one);
      }
      const refused = intervals.filter((one) => !isLawful(one)).map((one) => one.instanceId);
      return { booked: rows.size - before, refused: [...new Set(refused)] };
    },
    prune: async ({ beforeMs, limit }) => {
      const old = [...rows].filter(([, one]) => one.toMs < beforeMs).slice(0, limit);
      for (const [key] of old) rows.delete(key);
      return old.length;
    },
  };
  return {
    book,
    stretches: (workspace: WorkspaceName, { instanceId, limit }: { instanceId: InstanceId; limit: number }) =>
      [...rows.values()]
        .filter((one) => one.workspace === workspace && one.instanceId === instanceId)
        .toSorted((a, b) => a.fromMs - b.fromMs)
        .slice(-limit)
        .map(({ tier, fromMs, toMs }) => ({ tier, fromMs, toMs })),
    sum: (workspace: WorkspaceName, span: { fromMs: number; toMs: number }): UsageSum[] => {
      const sums = new Map<string, UsageSum>();
      for (const one of rows.values()) {
        if (one.workspace !== workspace || one.fromMs < span.fromMs || one.fromMs >= span.toMs) continue;
        const key = `${one.instanceId}/${one.tier}`;
        const before = sums.get(key) ?? NOTHING_USED;
        sums.set(key, {
          instanceId: one.instanceId,
          tier: one.tier,
          spanMs: before.spanMs + one.toMs - one.fromMs,
          cpuMs: before.cpuMs + one.cpuMs,
          memoryMibMs: before.memoryMibMs + one.memoryMibMs,
          egressBytes: before.egressBytes + one.egressBytes,
          diskMibMs: before.diskMibMs + one.diskMib * (one.toMs - one.fromMs),
          wakes: before.wakes + (one.wake === undefined ? 0 : 1),
          wakesLost: before.wakesLost + (one.wake === 'lost' ? 1 : 0),
        });
      }
      return [...sums.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, sum]) => sum);
    },
  };
}

function auditRows() {
  const rows: (AuditRow & { readonly body: string })[] = [];
  let anchor = { sequence: 0, hash: CHAIN_START };
  const log: AuditLog = {
    append: async (entry) => {
      const body = bodyOf(entry);
      const end = rows.at(-1) ?? anchor;
      const sequence = end.sequence + 1;
      rows.push({ ...entry, sequence, hash: linkHash(end.hash, sequence, body), body });
    },
    verify: async () => {
      const brokenAt = firstBroken(rows, anchor);
      return { rows: rows.length, ...(brokenAt === undefined ? {} : { brokenAt }) };
    },
    prune: async (old) => {
      const gone = rows.splice(0, countOld(rows, old));
      anchor = gone.at(-1) ?? anchor;
      return gone.length;
    },
  };
  return {
    log,
    list: (workspace: WorkspaceName, query: { limit: number; beforeSequence?: number }): AuditRow[] =>
      rows
        .filter((row) => row.workspace === workspace && row.sequence < (query.beforeSequence ?? Infinity))
        .toReversed()
        .slice(0, query.limit)
        .map(({ body: _body, ...row }) => row),
  };
}

function secretShelf(): SecretShelf {
  const rows = new Map<string, { name: string; value: string; updatedAtMs: number; updatedBy: string }>();
  return {
    list: async () =>
      [...rows.values()]
        .sort((a, b) => (a.name < b.name ? -1 : 1))
        .map(({ name, updatedAtMs, updatedBy }) => ({ name, updatedAtMs, updatedBy })),
    put: async ({ name, value, atMs, by }) => void rows.set(name, { name, value, updatedAtMs: atMs, updatedBy: by }),
    get: async (name) => rows.get(name)?.value,
    delete: async (name) => rows.delete(name),
  };
}

function idempotencyRows() {
  interface Claim {
    readonly requestHash: string;
    readonly claimUntilMs: number;
    readonly expiresAtMs: number;
    readonly answered?: { readonly answer: unknown };
  }
  const rows = new Map<string, Claim>();
  const shelf = (workspace: WorkspaceName): IdempotencyShelf => {
    const at = (key: string) => `${workspace}/${key}`;
    return {
      begin: async ({ key, requestHash, nowMs, claimUntilMs, expiresAtMs }) => {
        const there = rows.get(at(key));
        if (there && !hasLapsed(there, nowMs)) {
          if (there.requestHash !== requestHash) return { kind: 'mismatch' };
          return there.answered ? { kind: 'answered', answer: there.answered.answer } : { kind: 'running' };
        }
        rows.set(at(key), { requestHash, claimUntilMs, expiresAtMs });
        return { kind: 'begun' };
      },
      finish: async ({ key, claimUntilMs }, answer) => {
        const claim = rows.get(at(key));
        if (claim?.claimUntilMs !== claimUntilMs) return;
        rows.set(at(key), { ...claim, answered: { answer: structuredClone(answer) } });
      },
      abandon: async ({ key, claimUntilMs }) => {
        const claim = rows.get(at(key));
        if (claim?.claimUntilMs === claimUntilMs && !claim.answered) rows.delete(at(key));
      },
    };
  };
  const hasLapsed = (claim: Claim, nowMs: number) => (claim.answered ? claim.expiresAtMs : claim.claimUntilMs) <= nowMs;
  const forget = (nowMs: number) => {
    const lapsed = [...rows].filter(([, claim]) => hasLapsed(claim, nowMs));
    for (const [key] of lapsed) rows.delete(key);
    return lapsed.length;
  };
  return { shelf, forget };
}

function pick<T>(map: Map<string, T>, key: string, make: () => T): T {
  const there = map.get(key) ?? make();
  map.set(key, there);
  return there;
}
