import { z } from 'zod';
import { Generation, InstanceId, NodeId, SandboxName, WorkspaceName } from './ids.ts';

/** How a sandbox is kept apart from the host. `container` is never offered as multi-tenant isolation; `none` is the fake driver. */
export const Isolation = z.enum(['gvisor', 'microvm', 'container', 'none']);
export type Isolation = z.infer<typeof Isolation>;

/**
 * What an instance is doing, as its node knows it (DESIGN §4). `paused` keeps everything in RAM and uses no CPU; `lean` has
 * the memory of its programs in the host's swap, and wakes as `paused` does. `storing` is asleep while its image is
 * written; `stored` uses no RAM either and survives a reboot; `restoring` is a wake from there.
 */
export const InstanceState = z.enum([
  'creating',
  'running',
  'pausing',
  'paused',
  'lean',
  'waking',
  'storing',
  'stored',
  'restoring',
  'deleting',
  'deleted',
  'failed',
]);
export type InstanceState = z.infer<typeof InstanceState>;

/** Asleep, or on its way there, in whatever tier. */
export function isAsleep(state: InstanceState): boolean {
  return state === 'pausing' || state === 'paused' || state === 'lean' || state === 'storing' || state === 'stored';
}

/** When a sandbox may fall asleep. `after`: that long without use. `never`: only by command. */
export const IdlePolicy = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('after'), idleMs: z.number().int().min(0) }),
  z.object({ kind: z.literal('never') }),
]);
export type IdlePolicy = z.infer<typeof IdlePolicy>;

/**
 * What the wakes of a sandbox may take, and so how deep it sleeps. `p99`: of a hundred wakes at most one takes longer than `ms`. `cheapest`: however long.
 * Where none is given, its node goes by a fixed time.
 */
export const WakeBudget = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('p99'), ms: z.number().int().min(1).max(600_000) }),
  z.object({ kind: z.literal('cheapest') }),
]);
export type WakeBudget = z.infer<typeof WakeBudget>;

/** When a sandbox ends; the first that is met wins, none means never. Times are ms since the epoch, spans ms. */
export const Expiry = z.object({
  atMs: z.number().int().optional(),
  maxAgeMs: z.number().int().min(0).optional(),
  idleMs: z.number().int().min(0).optional(),
});
export type Expiry = z.infer<typeof Expiry>;

/** What is fixed when an instance boots, and so what pools are keyed by (together with the template). */
export const Shape = z.object({
  memoryMib: z.number().int().min(128),
  cpus: z.number().min(0.1),
  diskMib: z.number().int().min(64),
  pids: z.number().int().min(16),
});
export type Shape = z.infer<typeof Shape>;

/** What a create without sizes gets. Pools are kept for it, so the two must be one: a pool of another shape is never claimed. */
export const DEFAULT_SHAPE: Shape = { memoryMib: 4096, cpus: 2, diskMib: 8192, pids: 1024 };

export const Port = z.object({
  name: z.string().max(63).optional(),
  target: z.number().int().min(1).max(65535),
  protocol: z.enum(['HTTP', 'TCP', 'UDP', 'TLS']).optional(),
});
export type Port = z.infer<typeof Port>;

/** Where a sandbox stands in PostgreSQL's eyes: what is wanted and how far it got. */
export const SandboxPhase = z.enum(['creating', 'ready', 'failed', 'terminated']);
export type SandboxPhase = z.infer<typeof SandboxPhase>;

/** What somebody calls a snapshot: unique among those of its sandbox. Ids of snapshots are of the same alphabet. */
export const SnapshotName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'expected letters, digits, dots, hyphens and underscores, at most 63');

/**
 * Which snapshots of a sandbox go by themselves: how many stay at most, how long, and of how many bytes on the disk together. `asked`: those that somebody
 * asked for; `automatic`: those of what a fork was made from, and of what a restore replaced; `stores`: what it slept in, when it does not need that any more.
 * Absent: as its node has it.
 */
export const SnapshotLimits = z.object({
  askedMax: z.number().int().min(1).optional(),
  askedMs: z.number().int().min(60_000).optional(),
  askedBytes: z.number().int().min(1).optional(),
  automaticMax: z.number().int().min(1).optional(),
  automaticMs: z.number().int().min(60_000).optional(),
  storesMax: z.number().int().min(0).max(100).optional(),
});
export type SnapshotLimits = z.infer<typeof SnapshotLimits>;

/** Whose snapshot a fork is made from. */
export const Origin = z.object({ instanceId: InstanceId, name: SandboxName, snapshot: z.string() });
export type Origin = z.infer<typeof Origin>;

/** A sandbox as the control plane knows it: one row. Env values are not part of it; they lie sealed in the store. */
export const Sandbox = z.object({
  instanceId: InstanceId,
  workspace: WorkspaceName,
  name: SandboxName,
  generation: Generation,
  nodeId: NodeId,
  phase: SandboxPhase,
  reason: z.string().optional(),
  displayName: z.string().max(63).optional(),
  externalId: z
    .string()
    .max(64)
    .regex(/^[A-Za-z0-9-]+$/)
    .optional(),
  labels: z.record(z.string(), z.string()),
  /** Of a fork that was not restarted since. */
  origin: Origin.optional(),
  template: z.string(),
  image: z.string(),
  shape: Shape,
  ports: z.array(Port),
  envNames: z.array(z.string()),
  idle: IdlePolicy,
  snapshotLimits: SnapshotLimits.optional(),
  /** Its own. Absent: that of its workspace, if that has one. */
  wakeBudget: WakeBudget.optional(),
  expiry: Expiry,
  terminatedRetentionMs: z.number().int().min(0),
  /** Fields of the creating dialect that the core has no use for, given back as they came. */
  extra: z.record(z.string(), z.unknown()),
  createdAtMs: z.number(),
  updatedAtMs: z.number(),
  /** Of one in use it may be some seconds behind; its node knows. */
  lastUsedAtMs: z.number(),
  terminatedAtMs: z.number().optional(),
  createdBy: z.string(),
});
export type Sandbox = z.infer<typeof Sandbox>;

/** Where the bytes of a sandbox go. `nodeUrl` is the node-agent's data-plane listener. */
export const Route = z.object({
  instanceId: InstanceId,
  generation: Generation,
  nodeId: NodeId,
  nodeUrl: z.string(),
});
export type Route = z.infer<typeof Route>;
