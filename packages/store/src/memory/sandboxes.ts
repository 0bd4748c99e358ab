import type { Generation, InstanceId, Route, Sandbox, SandboxName, WakeBudget, WorkspaceName } from '@torpor/contracts';
import type { Movable } from './moves.ts';
import { planPage, valueOf, writeCursor, type PageMark } from '../page.ts';
import type {
  Ending,
  Holding,
  Incarnation,
  NodeRecord,
  SandboxChange,
  SandboxPage,
  SandboxQuery,
  SandboxShelf,
  Successor,
  Wanted,
} from '../store.ts';

type Env = Readonly<Record<string, string>>;

interface Row {
  readonly sequence: number;
  sandbox: Sandbox;
  env: Env;
  wasReady: boolean;
}

/** What lies beside these rows, and may change in the same commit. */
interface Around {
  previewsGo(workspace: WorkspaceName, name: SandboxName): void;
  /** Answers which. */
  snapshotsStay(instanceId: InstanceId, atMs: number): string[];
  budgetOf(workspace: WorkspaceName): WakeBudget | undefined;
  /** A move of it has begun, and is not over. */
  isMoving(instanceId: InstanceId): boolean;
  /** What it has of snapshots lies on that node from now on. */
  snapshotsMove(instanceId: InstanceId, to: Sandbox['nodeId']): void;
  superseded(from: InstanceId, to: InstanceId, atMs: number): void;
  hasVolumes(instanceId: InstanceId): boolean;
}

/** The rows of all sandboxes and endings, and the rules by which they change. Each method runs without a pause, as one commit would. */
export class SandboxRows implements Omit<Wanted, 'sweep'> {
  readonly #rows = new Map<number, Row>();
  readonly #endings = new Map<string, Ending>();
  readonly #nodes: ReadonlyMap<string, NodeRecord>;
  readonly #around: Around;
  #sequence = 0;

  constructor(nodes: ReadonlyMap<string, NodeRecord>, around: Around) {
    this.#nodes = nodes;
    this.#around = around;
  }

  /** Nobody wants the instance, and its node has confirmed that it cannot run. */
  hasEnded(instanceId: InstanceId): boolean {
    const isWanted = [...this.#rows.values()].some(
      ({ sandbox }) => sandbox.instanceId === instanceId && sandbox.phase !== 'terminated',
    );
    return (
      !isWanted &&
      ![...this.#endings.values()].some((one) => one.instanceId === instanceId && one.endedAtMs === undefined)
    );
  }

  shelf(workspace: WorkspaceName): SandboxShelf {
    const mine = () => [...this.#rows.values()].filter((row) => row.sandbox.workspace === workspace);
    return {
      get: async (name, nowMs) => {
        const named = mine().filter((row) => row.sandbox.name === name && !isForgotten(row.sandbox, nowMs));
        return (named.find((row) => row.sandbox.phase !== 'terminated') ?? named.at(-1))?.sandbox;
      },
      byExternalId: async (externalId) =>
        mine().findLast((row) => row.sandbox.externalId === externalId && row.sandbox.phase !== 'terminated')?.sandbox,
      list: async (query) => page(workspace, mine(), query),
      routeOf: async (name) => this.way(workspace, name),
      forksOf: async (instanceId) =>
        mine().flatMap(({ sandbox }) => (sandbox.origin?.instanceId === instanceId ? [sandbox] : [])),
      env: async (instanceId) => mine().find((row) => row.sandbox.instanceId === instanceId)?.env,
    };
  }

  way(workspace: WorkspaceName, name: SandboxName): { sandbox: Sandbox; route: Route } | undefined {
    const sandbox = this.#named(workspace, name)?.sandbox;
    const node = sandbox && this.#nodes.get(sandbox.nodeId);
    if (!node || sandbox.phase !== 'ready') return undefined;
    const { instanceId, generation, nodeId } = sandbox;
    return { sandbox, route: { instanceId, generation, nodeId, nodeUrl: node.url } };
  }

  async insert(sandbox: Sandbox, env: Env): Promise<{ kind: 'inserted' } | { kind: 'taken'; sandbox: Sandbox }> {
    const there = this.#named(sandbox.workspace, sandbox.name);
    if (there) return { kind: 'taken', sandbox: there.sandbox };
    const sequence = ++this.#sequence;
    this.#rows.set(sequence, {
      sequence,
      sandbox: structuredClone(sandbox),
      env: { ...env },
      wasReady: sandbox.phase === 'ready',
    });
    return { kind: 'inserted' };
  }

  async living(workspace: WorkspaceName, name: SandboxName): Promise<Sandbox | undefined> {
    const row = this.#named(workspace, name);
    return row && isLiving(row.sandbox) ? row.sandbox : undefined;
  }

  async becameReady(who: Incarnation, atMs: number): Promise<Sandbox | undefined> {
    const row = this.#fenced(who);
    if (row?.sandbox.phase !== 'creating') return undefined;
    row.wasReady = true;
    row.sandbox = {
      ...row.sandbox,
      phase: 'ready',
      updatedAtMs: atMs,
      lastUsedAtMs: Math.max(row.sandbox.lastUsedAtMs, atMs),
    };
    return row.sandbox;
  }

  async raise(who: Incarnation, more: { generation: Generation; atMs: number }): Promise<Sandbox | undefined> {
    const row = this.#fenced(who);
    if (row?.sandbox.phase !== 'ready' || this.#around.isMoving(who.instanceId)) return undefined;
    if (row.sandbox.generation >= more.generation) return undefined;
    const generation = this.#unused(who.instanceId, more.generation);
    row.sandbox = { ...row.sandbox, generation, updatedAtMs: more.atMs };
    return row.sandbox;
  }

  async supersede(who: Incarnation, next: Successor): Promise<Sandbox | undefined> {
    const row = this.#fenced(who);
    if (row?.sandbox.phase !== next.from) return undefined;
    const keep = this.#around.snapshotsStay(row.sandbox.instanceId, next.atMs);
    this.#mustEnd(row.sandbox, next.reason, next.atMs, keep);
    const { instanceId, generation, nodeId, atMs: updatedAtMs } = next;
    const envNames = next.env ? Object.keys(next.env).sort() : row.sandbox.envNames;
    row.env = next.env ?? row.env;
    this.#around.superseded(row.sandbox.instanceId, instanceId, updatedAtMs);
    const { origin: _, ...kept } = row.sandbox;
    row.sandbox = { ...kept, instanceId, generation, nodeId, updatedAtMs, envNames, phase: 'creating' };
    return row.sandbox;
  }

  async abandon(who: Incarnation, more: { reason: string; atMs: number }): Promise<boolean> {
    const row = this.#fenced(who);
    if (row?.sandbox.phase !== 'creating' || row.wasReady) return false;
    this.#mustEnd(row.sandbox, more.reason, more.atMs);
    this.#rows.delete(row.sequence);
    return true;
  }

  async fail(
    who: Incarnation,
    more: { reason: string; atMs: number; from?: 'creating' | 'ready' },
  ): Promise<Sandbox | undefined> {
    const row = this.#fenced(who);
    if (!row || !isLiving(row.sandbox) || row.sandbox.phase !== (more.from ?? row.sandbox.phase)) return undefined;
    this.#mustEnd(row.sandbox, more.reason, more.atMs);
    row.sandbox = { ...row.sandbox, phase: 'failed', reason: more.reason, updatedAtMs: more.atMs };
    return row.sandbox;
  }

  async failKept(who: Incarnation, more: { reason: string; atMs: number }): Promise<Sandbox | undefined> {
    const row = this.#fenced(who);
    if (row?.sandbox.phase !== 'ready') return undefined;
    row.sandbox = { ...row.sandbox, phase: 'failed', reason: more.reason, updatedAtMs: more.atMs };
    return row.sandbox;
  }

  async terminate(
    workspace: WorkspaceName,
    name: SandboxName,
    more: { reason: string; atMs: number; who?: Incarnation; keepSnapshots?: boolean },
  ): Promise<Sandbox | undefined> {
    const row = this.#named(workspace, name);
    if (!row || (more.who && !isSame(row.sandbox, more.who))) return undefined;
    if (!this.#endings.has(keyOf(row.sandbox))) {
      const keep = more.keepSnapshots ? this.#around.snapshotsStay(row.sandbox.instanceId, more.atMs) : [];
      this.#mustEnd(row.sandbox, more.reason, more.atMs, keep);
    }
    const { reason, atMs } = more;
    row.sandbox = { ...row.sandbox, phase: 'terminated', reason, updatedAtMs: atMs, terminatedAtMs: atMs };
    this.#around.previewsGo(workspace, name);
    return row.sandbox;
  }

  async revise(
    workspace: WorkspaceName,
    name: SandboxName,
    change: SandboxChange,
    atMs: number,
  ): Promise<Sandbox | undefined> {
    const row = this.#named(workspace, name);
    if (!row || !isLiving(row.sandbox)) return undefined;
    const { ports, wakeBudget, ...rest } = change;
    const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
    const { wakeBudget: before, ...kept } = row.sandbox;
    const budget = wakeBudget === undefined ? before : wakeBudget;
    const replaced = { ...(budget ? { wakeBudget: budget } : {}), ...(ports ? { ports: [...ports] } : {}) };
    row.sandbox = { ...kept, ...given, ...replaced, updatedAtMs: atMs };
    return row.sandbox;
  }

  async noteUse(uses: readonly (Incarnation & { lastUsedAtMs: number })[]): Promise<void> {
    for (const use of uses) {
      const row = this.#fenced(use);
      if (row) row.sandbox = { ...row.sandbox, lastUsedAtMs: Math.max(row.sandbox.lastUsedAtMs, use.lastUsedAtMs) };
    }
  }

  async onNode(nodeId: Sandbox['nodeId']): Promise<readonly Holding[]> {
    return this.#sandboxes()
      .filter((sandbox) => sandbox.nodeId === nodeId && (isLiving(sandbox) || this.#isKept(sandbox)))
      .map((sandbox) => {
        const { instanceId, generation, workspace, name, phase, idle, expiry, lastUsedAtMs, shape } = sandbox;
        const wakeBudget = sandbox.wakeBudget ?? this.#around.budgetOf(workspace);
        const policy = { idle, ...(wakeBudget ? { wakeBudget } : {}), expiry };
        const who = { instanceId, generation, nodeId, workspace, name, phase };
        return { ...who, ...policy, lastUsedAtMs, memoryMib: shape.memoryMib };
      });
  }

  async expiring(): Promise<readonly Sandbox[]> {
    return this.#sandboxes().filter(
      ({ phase, expiry }) =>
        (phase === 'ready' || phase === 'failed') && Object.values(expiry).some((limit) => limit !== undefined),
    );
  }

  async stuckCreating(beforeMs: number): Promise<readonly { sandbox: Sandbox; wasReady: boolean }[]> {
    return [...this.#rows.values()]
      .filter(({ sandbox }) => sandbox.phase === 'creating' && sandbox.updatedAtMs < beforeMs)
      .map(({ sandbox, wasReady }) => ({ sandbox, wasReady }));
  }

  async envOf(who: Incarnation): Promise<Env | undefined> {
    return this.#fenced(who)?.env;
  }

  /** Of one that is ready, in whatever generation. */
  readyNow(instanceId: InstanceId): { nodeId: Sandbox['nodeId']; env: Env } | undefined {
    const row = [...this.#rows.values()].find(
      ({ sandbox }) => sandbox.instanceId === instanceId && sandbox.phase === 'ready',
    );
    return row && { nodeId: row.sandbox.nodeId, env: row.env };
  }

  nodeOf(instanceId: InstanceId): Sandbox['nodeId'] | undefined {
    return this.#sandboxes().find((one) => one.instanceId === instanceId)?.nodeId;
  }

  has(instanceId: InstanceId): boolean {
    return this.#sandboxes().some((one) => one.instanceId === instanceId && one.phase !== 'terminated');
  }

  async load(): Promise<readonly { nodeId: Sandbox['nodeId']; living: number; memoryMib: number }[]> {
    const loads = new Map<Sandbox['nodeId'], { nodeId: Sandbox['nodeId']; living: number; memoryMib: number }>();
    for (const { nodeId, shape } of this.#sandboxes().filter(isLiving)) {
      const { living, memoryMib } = loads.get(nodeId) ?? { living: 0, memoryMib: 0 };
      loads.set(nodeId, { nodeId, living: living + 1, memoryMib: memoryMib + shape.memoryMib });
    }
    return [...loads.values()];
  }

  async endings(filter: {
    nodeId?: Sandbox['nodeId'];
    instanceIds?: readonly InstanceId[];
  }): Promise<readonly Ending[]> {
    const named = new Set(filter.instanceIds);
    return [...this.#endings.values()].filter(
      (ending) =>
        (ending.endedAtMs === undefined || named.has(ending.instanceId)) &&
        (filter.nodeId === undefined || ending.nodeId === filter.nodeId) &&
        (filter.instanceIds === undefined || named.has(ending.instanceId)),
    );
  }

  async ended(who: Incarnation, atMs: number): Promise<void> {
    const ending = this.#endings.get(keyOf(who));
    if (ending && ending.endedAtMs === undefined) this.#endings.set(keyOf(who), { ...ending, endedAtMs: atMs });
  }

  get movable(): Movable {
    return {
      ready: (who) => {
        const row = this.#fenced(who);
        return row?.sandbox.phase === 'ready' ? row.sandbox : undefined;
      },
      hasVolumes: (instanceId) => this.#around.hasVolumes(instanceId),
      unused: (instanceId, from) => this.#unused(instanceId, from),
      moveTo: (who, { to: nodeId, nextGeneration: generation }, updatedAtMs) => {
        const row = this.#fenced(who);
        if (!row) throw new Error('a sandbox moved that is not there');
        row.sandbox = { ...row.sandbox, nodeId, generation, updatedAtMs };
        this.#around.snapshotsMove(who.instanceId, nodeId);
        return row.sandbox;
      },
      mustEnd: (ending) => {
        if (!this.#endings.has(keyOf(ending))) this.#endings.set(keyOf(ending), ending);
      },
    };
  }

  forget(at: { nowMs: number; endedBeforeMs: number }): number {
    const rows = [...this.#rows.values()].filter((row) => isForgotten(row.sandbox, at.nowMs));
    const endings = [...this.#endings.values()].filter(
      (e) => e.endedAtMs !== undefined && e.endedAtMs < at.endedBeforeMs,
    );
    for (const row of rows) this.#rows.delete(row.sequence);
    for (const ending of endings) this.#endings.delete(keyOf(ending));
    return rows.length + endings.length;
  }

  /** Whether that incarnation is or was on that node, for that workspace; it may have been raised since. */
  ran(who: Incarnation, { nodeId, workspace }: Pick<Ending, 'nodeId' | 'workspace'>): boolean {
    const isOf = (one: Incarnation) => one.instanceId === who.instanceId && one.generation >= who.generation;
    const rows = this.#sandboxes().filter(isOf);
    return [...rows, ...[...this.#endings.values()].filter(isOf)].some(
      (one) => one.nodeId === nodeId && one.workspace === workspace,
    );
  }

  /** The first generation from that one on that is after all that have ended. */
  #unused(instanceId: InstanceId, from: Generation): Generation {
    const ended = [...this.#endings.values()].filter((one) => one.instanceId === instanceId);
    return ended.reduce((least, { generation }) => (generation < least ? least : after(generation)), from);
  }

  #sandboxes(): Sandbox[] {
    return [...this.#rows.values()].map((row) => row.sandbox);
  }

  #named(workspace: WorkspaceName, name: SandboxName): Row | undefined {
    return [...this.#rows.values()].find(
      ({ sandbox }) => sandbox.workspace === workspace && sandbox.name === name && sandbox.phase !== 'terminated',
    );
  }

  #fenced(who: Incarnation): Row | undefined {
    return [...this.#rows.values()].find((row) => row.sandbox.phase !== 'terminated' && isSame(row.sandbox, who));
  }

  /** Failed, with files that its node keeps. */
  #isKept(sandbox: Sandbox): boolean {
    return sandbox.phase === 'failed' && !this.#endings.has(keyOf(sandbox));
  }

  #mustEnd(
    { instanceId, generation, nodeId, workspace }: Sandbox,
    reason: string,
    sinceMs: number,
    keep: readonly string[] = [],
  ): void {
    const more = keep.length > 0 ? { keep } : {};
    const ending = { instanceId, generation, nodeId, workspace, reason, sinceMs, ...more };
    this.#endings.set(keyOf(ending), ending);
  }
}

function page(workspace: WorkspaceName, rows: readonly Row[], query: SandboxQuery): SandboxPage {
  const plan = planPage(workspace, query);
  const sign = plan.direction === 'asc' ? 1 : -1;
  const markOf = (row: Row): PageMark => ({ value: valueOf(row.sandbox, plan.by), sequence: row.sequence });
  const order = (a: PageMark, b: PageMark) => sign * (compare(a.value, b.value) || a.sequence - b.sequence);
  const all = rows.filter((row) => matches(row.sandbox, query)).sort((a, b) => order(markOf(a), markOf(b)));
  const { after } = plan;
  const rest = after ? all.filter((row) => order(markOf(row), after) > 0) : all;
  const cut = plan.fromEnd ? rest.slice(-plan.limit) : rest.slice(0, plan.limit);
  const last = cut.at(-1);
  const more = last !== undefined && last !== all.at(-1);
  return {
    items: cut.map((row) => row.sandbox),
    nextCursor: more ? writeCursor(workspace, query, markOf(last)) : undefined,
    total: all.length,
  };
}

function matches(sandbox: Sandbox, query: SandboxQuery): boolean {
  if (sandbox.phase === 'terminated' && (!query.showTerminated || isForgotten(sandbox, query.nowMs))) return false;
  if (query.phases && !query.phases.includes(sandbox.phase)) return false;
  if (query.externalId !== undefined && sandbox.externalId !== query.externalId) return false;
  if (query.q === undefined || query.q === '') return true;
  const part = query.q.toLowerCase();
  const texts = [sandbox.name, sandbox.displayName ?? '', sandbox.externalId ?? '', ...Object.values(sandbox.labels)];
  return texts.some((text) => text.toLowerCase().includes(part));
}

function after(generation: Generation): Generation {
  return (generation + 1) as Generation; // a greater one is one, too
}

function compare(a: string | number, b: string | number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function isLiving(sandbox: Sandbox): boolean {
  return sandbox.phase === 'creating' || sandbox.phase === 'ready';
}

function isForgotten(sandbox: Sandbox, nowMs: number): boolean {
  return sandbox.phase === 'terminated' && (sandbox.terminatedAtMs ?? 0) + sandbox.terminatedRetentionMs <= nowMs;
}

function isSame(a: Incarnation, b: Incarnation): boolean {
  return a.instanceId === b.instanceId && a.generation === b.generation;
}

function keyOf(who: Incarnation): string {
  return `${who.instanceId}/${who.generation}`;
}
