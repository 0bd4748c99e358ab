/**
 * The record of what is wanted (DESIGN §2): only a commit here makes an answer to a create, a delete or a policy change true.
 *
 * Everything of a tenant is reached through `store.workspace(name)`, so no query can forget whose rows it means. What the platform itself needs
 * across tenants (the fleet, the scheduler's work, keys by their prefix, previews by their public id) has repositories of its own beside it.
 *
 * Two implementations pass one suite (`conformance.ts`): `pgStore` and `memoryStore`. Times are ms since the epoch and always given by the caller.
 */
import type {
  Expiry,
  Generation,
  IdlePolicy,
  InstanceId,
  Isolation,
  NodeId,
  NodeSwap,
  Port,
  Route,
  Sandbox,
  SandboxName,
  SandboxPhase,
  Shape,
  SnapshotLimits,
  UsageInterval,
  Volume,
  VolumeId,
  VolumeName,
  WakeBudget,
  WorkspaceName,
} from '@torpor/contracts';
import type { ApiKey, NewApiKey, StoredApiKey } from './keys.ts';

export interface Store {
  workspace(name: WorkspaceName): WorkspaceStore;
  readonly workspaces: WorkspaceList;
  readonly keys: KeyRing;
  /** Previews as a stranger asks for them: by public id, with the way to the sandbox. */
  readonly publicPreviews: { find(id: string): Promise<PreviewWay | undefined> };
  readonly fleet: Fleet;
  readonly wanted: Wanted;
  readonly snapshots: SnapshotBook;
  readonly moves: Moves;
  readonly volumes: VolumeBook;
  readonly usage: UsageBook;
  readonly audit: AuditLog;
  /** Rejects when the database does not answer. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

/** Everything of one tenant. */
export interface WorkspaceStore {
  readonly name: WorkspaceName;
  readonly sandboxes: SandboxShelf;
  readonly previews: PreviewShelf;
  readonly volumes: VolumeShelf;
  readonly keys: {
    list(): Promise<readonly ApiKey[]>;
    create(key: NewApiKey): Promise<ApiKey>;
    revoke(id: string, atMs: number): Promise<ApiKey | undefined>;
  };
  readonly secrets: SecretShelf;
  /** Those on record, the oldest first. */
  readonly snapshots: { list(): Promise<readonly SnapshotRecord[]> };
  readonly usage: {
    sum(span: { fromMs: number; toMs: number }): Promise<readonly UsageSum[]>;
    /** What was booked of one instance, the oldest first; of many the last `limit`. */
    stretches(of: { instanceId: InstanceId; limit: number }): Promise<readonly UsedStretch[]>;
  };
  readonly audit: { list(query: { limit: number; beforeSequence?: number }): Promise<readonly AuditRow[]> };
  readonly idempotency: IdempotencyShelf;
}

// ---------------------------------------------------------------------------------------------------------------- workspaces and keys

export interface Workspace {
  readonly name: WorkspaceName;
  readonly displayName: string;
  /** Of its sandboxes that have none of their own. */
  readonly wakeBudget?: WakeBudget;
  readonly createdAtMs: number;
  readonly createdBy: string;
}

export interface WorkspaceList {
  list(): Promise<readonly Workspace[]>;
  get(name: WorkspaceName): Promise<Workspace | undefined>;
  /** `taken`: one of that name is there already, and is answered. */
  create(workspace: Workspace): Promise<{ kind: 'created' | 'taken'; workspace: Workspace }>;
  /** `undefined` takes it away. Answers the workspace as it is now, when there is one. */
  setWakeBudget(name: WorkspaceName, budget: WakeBudget | undefined): Promise<Workspace | undefined>;
}

export interface KeyRing {
  /** Revoked and expired keys are answered too: `checkKey` tells. */
  findByPrefix(prefix: string): Promise<StoredApiKey | undefined>;
  /** A personal key: bound to no workspace. */
  createPersonal(key: NewApiKey): Promise<ApiKey>;
  listPersonal(): Promise<readonly ApiKey[]>;
  revokePersonal(id: string, atMs: number): Promise<ApiKey | undefined>;
  /** Moves `lastUsedAtMs` forward, never back. */
  noteUse(uses: readonly { id: string; atMs: number }[]): Promise<void>;
}

// ---------------------------------------------------------------------------------------------------------------- sandboxes of a tenant

export interface SandboxShelf {
  /** The living or failed one of that name; else the newest terminated one whose retention has not passed at `nowMs`. */
  get(name: SandboxName, nowMs: number): Promise<Sandbox | undefined>;
  /** The newest that is not terminated. */
  byExternalId(externalId: string): Promise<Sandbox | undefined>;
  list(query: SandboxQuery): Promise<SandboxPage>;
  /** The ready one of that name and where its bytes go, in one query. */
  routeOf(name: SandboxName): Promise<{ sandbox: Sandbox; route: Route } | undefined>;
  /** All that were forked from it, also terminated ones that may still be read; the oldest first. */
  forksOf(instanceId: InstanceId): Promise<readonly Sandbox[]>;
  /** The env as it was given. Undefined when no such sandbox is there. */
  env(instanceId: InstanceId): Promise<Readonly<Record<string, string>> | undefined>;
}

export interface SandboxQuery {
  readonly nowMs: number;
  /** 1 to 200; default 50. */
  readonly limit?: number;
  /** `nextCursor` of the page before, asked with the same filters and order; otherwise `bad_request`. Good for 24 hours. */
  readonly cursor?: string;
  readonly sort?: { readonly by: SandboxOrder; readonly direction: 'asc' | 'desc' };
  /** `end`: the last page instead of the first. */
  readonly anchor?: 'start' | 'end';
  /** Part of the name, display name, external id or a label's value; upper and lower case are one. */
  readonly q?: string;
  readonly externalId?: string;
  readonly phases?: readonly SandboxPhase[];
  /** Default false. Those past their retention are hidden all the same. */
  readonly showTerminated?: boolean;
}
export type SandboxOrder = 'createdAt' | 'updatedAt' | 'lastUsedAt' | 'name';

export interface SandboxPage {
  readonly items: readonly Sandbox[];
  readonly nextCursor: string | undefined;
  /** Of all pages. */
  readonly total: number;
}

// ---------------------------------------------------------------------------------------------------------------- previews

export interface Preview {
  /** Names it on the outside; unguessable; never reused. */
  readonly id: string;
  readonly sandbox: SandboxName;
  readonly name: string;
  readonly port: number;
  readonly public: boolean;
  readonly expiresAtMs?: number;
  /** Fields of the creating dialect, given back as they came. */
  readonly extra: Readonly<Record<string, unknown>>;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  readonly createdBy: string;
}

export interface PreviewToken {
  readonly name: string;
  readonly value: string;
  readonly createdAtMs: number;
  readonly expiresAtMs?: number;
}

/** Previews end with their sandbox. */
export interface PreviewShelf {
  list(sandbox: SandboxName): Promise<readonly Preview[]>;
  get(sandbox: SandboxName, name: string): Promise<Preview | undefined>;
  /** `taken`: one of that name is there already, and is answered. `no_sandbox`: no living sandbox has the name. */
  create(preview: Preview): Promise<{ kind: 'created' | 'taken'; preview: Preview } | { kind: 'no_sandbox' }>;
  /** Replaces all but id, sandbox, name and the times and author of its creation. */
  replace(preview: Preview): Promise<Preview | undefined>;
  delete(sandbox: SandboxName, name: string): Promise<Preview | undefined>;
  tokens(sandbox: SandboxName, preview: string): Promise<readonly PreviewToken[]>;
  /** Undefined when there is no such preview. A token of the same name is replaced. */
  createToken(sandbox: SandboxName, preview: string, token: PreviewToken): Promise<PreviewToken | undefined>;
  /** By its name or by its value. */
  deleteToken(sandbox: SandboxName, preview: string, nameOrValue: string): Promise<PreviewToken | undefined>;
}

export interface PreviewWay {
  readonly workspace: WorkspaceName;
  readonly preview: Preview;
  /** sha256 of each token's value, with its end. Compare with `tokenOpens`. */
  readonly tokens: readonly { readonly hash: Uint8Array; readonly expiresAtMs?: number }[];
  /** Undefined while the sandbox is not ready. */
  readonly way: { readonly sandbox: Sandbox; readonly route: Route } | undefined;
}

// ---------------------------------------------------------------------------------------------------------------- volumes

export interface VolumeShelf {
  /** By name. */
  list(): Promise<readonly Volume[]>;
  get(name: VolumeName): Promise<Volume | undefined>;
}

/** The scheduler's side of volumes, across tenants. A fenced change answers undefined when the row is no longer as the fence says. */
export interface VolumeBook {
  /** `taken`: one of that name is there already, and is answered. */
  insert(volume: Volume): Promise<{ kind: 'inserted' } | { kind: 'taken'; volume: Volume }>;
  find(workspace: WorkspaceName, name: VolumeName): Promise<Volume | undefined>;
  /** creating → ready. */
  becameReady(id: VolumeId, atMs: number): Promise<Volume | undefined>;
  resize(id: VolumeId, sizeMib: number, atMs: number): Promise<Volume | undefined>;
  /** A ready one that is attached nowhere is to be the instance's: the next generation, attaching. Undefined: it is not so, or the instance lives elsewhere or is to. */
  attach(
    id: VolumeId,
    to: Pick<NonNullable<Volume['attachment']>, 'instanceId' | 'sandbox' | 'path'>,
    atMs: number,
  ): Promise<Volume | undefined>;
  /** attaching → attached, of that generation; detaching likewise, when it cannot be. */
  attached(fence: VolumeFence, atMs: number): Promise<Volume | undefined>;
  /** All of an instance that came into being with it: ready, and attached. */
  attachedWith(instanceId: InstanceId, atMs: number): Promise<void>;
  /** Attached, or on its way there or away → detaching: the next generation. Undefined: it is attached nowhere. */
  detach(id: VolumeId, atMs: number): Promise<Volume | undefined>;
  /** detaching → free, of that generation, and nobody's but its own. */
  detached(fence: VolumeFence, atMs: number): Promise<Volume | undefined>;
  /** Nothing of the instance can run any more: what it had is free, but for a fork's own, which are to be deleted. Answers both. */
  release(instanceId: InstanceId, atMs: number): Promise<readonly Volume[]>;
  /** Free → deleting: the next generation. Undefined: it is attached. */
  beginDelete(id: VolumeId, atMs: number): Promise<Volume | undefined>;
  /** deleting → no row. */
  remove(id: VolumeId): Promise<void>;
  /** What an instance has, or is to have. */
  of(instanceId: InstanceId): Promise<readonly Volume[]>;
  /** All that somebody must do something about, changed before `beforeMs`: being made, deleted, attached or detached, or attached to what has ended. */
  unsettled(beforeMs: number): Promise<readonly Volume[]>;
  /** All that are there, snapshots too: what they hold takes room. */
  metered(): Promise<readonly MeteredVolume[]>;
  /** By node, the sizes of its volumes together; snapshots of volumes have none. */
  promised(): Promise<readonly { readonly nodeId: NodeId; readonly sizeMib: number }[]>;
}

export type MeteredVolume = Pick<Volume, 'id' | 'workspace' | 'nodeId'>;

export interface VolumeFence {
  readonly id: VolumeId;
  readonly generation: Generation;
}

// ---------------------------------------------------------------------------------------------------------------- secrets and idempotency

export interface SecretShelf {
  list(): Promise<readonly { readonly name: string; readonly updatedAtMs: number; readonly updatedBy: string }[]>;
  put(secret: { name: string; value: string; atMs: number; by: string }): Promise<void>;
  get(name: string): Promise<string | undefined>;
  delete(name: string): Promise<boolean>;
}

export interface IdempotencyShelf {
  /**
   * Claims the key for a request. `begun`: go on, then `finish` or `abandon`. `answered`: give this answer again. `running`: another request with
   * the key is under way. `mismatch`: the key was used for a different request.
   * A claim whose holder has died lapses at `claimUntilMs`; an answer is kept until `expiresAtMs`.
   */
  begin(
    ask: IdempotencyClaim & { requestHash: string; nowMs: number; expiresAtMs: number },
  ): Promise<{ kind: 'begun' } | { kind: 'answered'; answer: unknown } | { kind: 'running' } | { kind: 'mismatch' }>;
  /** Nothing happens unless the claim is the one that holds the key: whoever was late has had a successor. */
  finish(claim: IdempotencyClaim, answer: unknown): Promise<void>;
  abandon(claim: IdempotencyClaim): Promise<void>;
}

/** `claimUntilMs` tells one claim of a key from the next, which begins when it has passed. */
export interface IdempotencyClaim {
  readonly key: string;
  readonly claimUntilMs: number;
}

// ---------------------------------------------------------------------------------------------------------------- audit and usage

export interface AuditEntry {
  readonly atMs: number;
  readonly workspace?: WorkspaceName;
  /** Who: the subject of the key. */
  readonly actor: string;
  /** What, such as `sandbox.create`. */
  readonly action: string;
  readonly target?: string;
  /** `ok`, or the failure's code. */
  readonly outcome: string;
  readonly traceId?: string;
  /** No secrets. */
  readonly details?: Readonly<Record<string, unknown>>;
}

export interface AuditRow extends AuditEntry {
  readonly sequence: number;
  /** Hex: sha256 of the hash before and this row. */
  readonly hash: string;
}

export interface AuditLog {
  /** Resolves when it is committed. Entries that come while a commit is under way share the next one. */
  append(entry: AuditEntry): Promise<void>;
  /** Walks the chain from where it begins. `brokenAt`: the first row that does not follow from the one before. */
  verify(): Promise<{ rows: number; brokenAt?: number }>;
  /** Deletes the chain's oldest rows, and remembers the last hash that went, so that what is left can still be verified. Answers how many. */
  prune(old: Old): Promise<number>;
}

/** Rows from before a time, so many at once that nobody waits for it. */
export interface Old {
  readonly beforeMs: number;
  readonly limit: number;
}

export interface UsageBook {
  /**
   * Books each interval once, of incarnations and volumes that this node has or had for that workspace; no node can charge for another's. `refused`: the instances
   * of which that is not known.
   */
  book(
    nodeId: NodeId,
    intervals: readonly UsageInterval[],
  ): Promise<{ readonly booked: number; readonly refused: readonly InstanceId[] }>;
  /** Deletes intervals that ended before; answers how many. */
  prune(old: Old): Promise<number>;
}

export interface UsageSum {
  readonly instanceId: InstanceId;
  readonly tier: UsageInterval['tier'];
  readonly spanMs: number;
  readonly cpuMs: number;
  readonly memoryMibMs: number;
  readonly egressBytes: number;
  readonly diskMibMs: number;
  /** How many of these sleeps ended with a wake, and how many of those did not bring back everything. */
  readonly wakes: number;
  readonly wakesLost: number;
}

// ---------------------------------------------------------------------------------------------------------------- the fleet

export interface NodeRecord {
  readonly id: NodeId;
  /** Of its data-plane listener. */
  readonly url: string;
  readonly isolation: Isolation;
  readonly templates: readonly string[];
  readonly capacity: {
    readonly memoryMib: number;
    readonly memoryFreeMib: number;
    /** All that its disks may take together; absent when the node does not say. */
    readonly diskMib?: number | undefined;
    readonly diskFreeMib: number;
    readonly slotsFree: number;
    readonly swap?: NodeSwap | undefined;
  };
  readonly pool: readonly {
    readonly template: string;
    readonly shape: Shape;
    readonly ready: number;
    readonly target: number;
  }[];
  readonly heardAtMs: number;
  /** 0: the node needs no lease (a single node). */
  readonly leaseUntilMs: number;
  /** Somebody wants it empty: nothing new is placed there. Never said by the node. */
  readonly drainingSinceMs?: number;
}

export interface Fleet {
  heard(node: NodeRecord): Promise<void>;
  get(id: NodeId): Promise<NodeRecord | undefined>;
  list(): Promise<readonly NodeRecord[]>;
  /** `undefined`: it is drained no more. False when no such node was ever heard of. */
  drain(id: NodeId, sinceMs: number | undefined): Promise<boolean>;
}

// ---------------------------------------------------------------------------------------------------------------- the scheduler's work

/** Names one incarnation: every change of the scheduler is fenced by it. */
export interface Incarnation {
  readonly instanceId: InstanceId;
  readonly generation: Generation;
}

/** An incarnation that must end on its node and is not known to have ended. Written in the same commit as the change that unwants it. */
export interface Ending extends Incarnation {
  readonly nodeId: NodeId;
  readonly workspace: WorkspaceName;
  readonly reason: string;
  readonly sinceMs: number;
  /** Snapshots of it that do not end with it, by id. Absent: none. */
  readonly keep?: readonly string[];
  /** When the node said that it cannot run any more. Kept a while longer, so that a late start is recognised as unwanted. */
  readonly endedAtMs?: number;
}

/** What a node's report is held against. */
export interface Holding extends Pick<
  Sandbox,
  'instanceId' | 'generation' | 'nodeId' | 'workspace' | 'name' | 'phase' | 'idle' | 'expiry' | 'lastUsedAtMs'
> {
  readonly memoryMib: number;
  /** Its own, or that of its workspace. */
  readonly wakeBudget?: WakeBudget;
}

/** What an updated sandbox gets; absent fields stay. `expiry` and `labels` replace whole. */
export interface SandboxChange {
  readonly labels?: Readonly<Record<string, string>>;
  readonly displayName?: string;
  readonly externalId?: string;
  readonly idle?: IdlePolicy;
  readonly snapshotLimits?: SnapshotLimits;
  /** Null: none of its own. */
  readonly wakeBudget?: WakeBudget | null;
  readonly expiry?: Expiry;
  readonly terminatedRetentionMs?: number;
  readonly ports?: readonly Port[];
  readonly extra?: Readonly<Record<string, unknown>>;
}

/** The next incarnation of a sandbox, and what the one before must be doing for it: one that was answered meanwhile is not taken away. */
export interface Successor extends Incarnation {
  readonly nodeId: NodeId;
  readonly from: 'creating' | 'ready';
  readonly atMs: number;
  readonly reason: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** The scheduler's side of sandboxes, across tenants. A fenced change answers undefined when the row is no longer as the fence says. */
export interface Wanted {
  /** One commit. `taken`: a living or failed sandbox has the name, and is answered. The row begins in the phase it carries. */
  insert(
    sandbox: Sandbox,
    env: Readonly<Record<string, string>>,
  ): Promise<{ kind: 'inserted' } | { kind: 'taken'; sandbox: Sandbox }>;
  living(workspace: WorkspaceName, name: SandboxName): Promise<Sandbox | undefined>;
  /** creating → ready. */
  becameReady(who: Incarnation, atMs: number): Promise<Sandbox | undefined>;
  /**
   * ready → ready, with this generation, if it is a greater one, or the first after it that nothing which has ended had: of the same instance where it is,
   * whose older generations are no more. Not of one that is on its way to another node.
   */
  raise(who: Incarnation, more: { generation: Generation; atMs: number }): Promise<Sandbox | undefined>;
  /**
   * `from` → creating as the next incarnation, which is no fork any more, the old one to be ended; its snapshots are kept. `env` replaces the env. It has
   * the old one's volumes.
   */
  supersede(who: Incarnation, next: Successor): Promise<Sandbox | undefined>;
  /** creating, and never ready → no row at all; the incarnation is to be ended. */
  abandon(who: Incarnation, more: { reason: string; atMs: number }): Promise<boolean>;
  /** creating or ready, or `from` alone → failed, with the reason; the incarnation is to be ended. */
  fail(
    who: Incarnation,
    more: { reason: string; atMs: number; from?: 'creating' | 'ready' },
  ): Promise<Sandbox | undefined>;
  /** ready → failed, with the reason; nothing is ended: its node keeps its files until it is terminated. */
  failKept(who: Incarnation, more: { reason: string; atMs: number }): Promise<Sandbox | undefined>;
  /**
   * living or failed → terminated; its previews go, and unless they are to be kept its snapshots; the incarnation is to be ended. With `who`, only that
   * incarnation.
   */
  terminate(
    workspace: WorkspaceName,
    name: SandboxName,
    more: { reason: string; atMs: number; who?: Incarnation; keepSnapshots?: boolean },
  ): Promise<Sandbox | undefined>;
  revise(
    workspace: WorkspaceName,
    name: SandboxName,
    change: SandboxChange,
    atMs: number,
  ): Promise<Sandbox | undefined>;
  /** Moves `lastUsedAtMs` forward, never back. */
  noteUse(uses: readonly (Incarnation & { lastUsedAtMs: number })[]): Promise<void>;
  /** What this node should hold: living ones, and failed ones whose files it keeps. Asked with every heartbeat, and so no more of each than that takes. */
  onNode(nodeId: NodeId): Promise<readonly Holding[]>;
  /** All that live and may expire. */
  expiring(): Promise<readonly Sandbox[]>;
  /** In phase creating, unchanged since before `beforeMs`. `wasReady`: it was answered once, and is being made anew. */
  stuckCreating(beforeMs: number): Promise<readonly { readonly sandbox: Sandbox; readonly wasReady: boolean }[]>;
  /** The env of a sandbox of any tenant, for starting it. */
  envOf(who: Incarnation): Promise<Readonly<Record<string, string>> | undefined>;
  /** How many live on each node, and the memory they were promised. */
  load(): Promise<readonly { nodeId: NodeId; living: number; memoryMib: number }[]>;
  /** Those not known to have ended; with ids, of these also the ended ones. */
  endings(filter: { nodeId?: NodeId; instanceIds?: readonly InstanceId[] }): Promise<readonly Ending[]>;
  ended(who: Incarnation, atMs: number): Promise<void>;
  /** Deletes terminated rows past their retention, snapshots that ended with their sandbox, endings ended before `endedBeforeMs`, lapsed idempotency keys. Answers how many rows. */
  sweep(at: { nowMs: number; endedBeforeMs: number }): Promise<number>;
}

// ---------------------------------------------------------------------------------------------------------------- snapshots

/** A snapshot that somebody asked for. What it holds lies on its node; the record lets it outlive its sandbox. */
export interface SnapshotRecord {
  /** Its id on the node, too; never used twice. */
  readonly id: string;
  readonly name?: string;
  readonly atMs: number;
  readonly bytes?: number;
  readonly by?: string;
  /** Whose it is, as that was when the snapshot was made: so is what is made of it. */
  readonly sandbox: Sandbox;
  /** Its sandbox was ended then, and it was not. */
  readonly keptSinceMs?: number;
}

/** What an instance did for a while. */
export type UsedStretch = Pick<UsageInterval, 'tier' | 'fromMs' | 'toMs'>;

/** Snapshots are there as long as their sandbox is, which may have failed, or for as long as they are kept without it. */
export interface SnapshotBook {
  /** Twice is once. False: its sandbox is not ready any more. */
  put(record: SnapshotRecord): Promise<boolean>;
  find(workspace: WorkspaceName, id: string): Promise<SnapshotRecord | undefined>;
  /** The env that its sandbox had. */
  envOf(workspace: WorkspaceName, id: string): Promise<Readonly<Record<string, string>> | undefined>;
  drop(workspace: WorkspaceName, id: string): Promise<SnapshotRecord | undefined>;
  /** How many lie on a node whose sandboxes are no more. */
  keptOn(nodeId: NodeId): Promise<number>;
}

// ---------------------------------------------------------------------------------------------------------------- moves

/** A sandbox on its way to another node. Its fence is the incarnation that it leaves as. */
export interface Move extends Incarnation {
  /** What it is to be on the other node; no incarnation of it ever was. */
  readonly nextGeneration: Generation;
  readonly workspace: WorkspaceName;
  readonly name: SandboxName;
  readonly from: NodeId;
  readonly to: NodeId;
  readonly reason: string;
  readonly sinceMs: number;
  /** Why it will not move; the node that it was to leave is still to be told. */
  readonly cancelled?: string;
}

/** Each change is one commit. Until one of them says otherwise a sandbox lives where its row says, whatever nodes hold of it. */
export interface Moves {
  /** `undefined`: the sandbox is not ready, another incarnation, or has volumes, which do not travel. `there`: one has begun already. */
  begin(
    who: Incarnation,
    more: { to: NodeId; reason: string; atMs: number },
  ): Promise<{ kind: 'begun' | 'there'; move: Move } | undefined>;
  open(): Promise<readonly Move[]>;
  /** It lives at the other node from now on, and what it leaves is to be ended; the move is over. `undefined`: it was cancelled, or the sandbox is not what it was. */
  commit(who: Incarnation, atMs: number): Promise<Sandbox | undefined>;
  /** It can be committed no more, and what came to the other node is to be ended. */
  cancel(who: Incarnation, more: { reason: string; atMs: number }): Promise<Move | undefined>;
  /** The node that it was to leave knows that it stays: a cancelled one is forgotten. */
  over(who: Incarnation): Promise<void>;
}
