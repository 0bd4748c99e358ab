import { z } from 'zod';
import { defineCall, defineFact } from './call.ts';
import { Generation, InstanceId, NodeId, SandboxName, VolumeId, WorkspaceName } from './ids.ts';
import { SignedReceipt, WakeTier } from './receipt.ts';
import {
  Expiry,
  IdlePolicy,
  InstanceState,
  Isolation,
  Port,
  Route,
  Sandbox,
  Shape,
  SnapshotLimits,
  SnapshotName,
  WakeBudget,
} from './sandbox.ts';
import { NodeSwap } from './swap.ts';
import { AttachedVolume, VolumeMounts, VolumeSize } from './volume.ts';

const Env = z.record(z.string(), z.string());

/** A lawful ask for a sandbox: the gateway has checked who asks and what they may. */
export const SandboxAsk = z.object({
  workspace: WorkspaceName,
  /** Absent: the scheduler finds one. */
  name: SandboxName.optional(),
  /** Answer with the living sandbox of that name instead of a conflict. */
  reuse: z.boolean(),
  template: z.string(),
  image: z.string(),
  shape: Shape,
  env: Env,
  ports: z.array(Port),
  labels: z.record(z.string(), z.string()),
  displayName: z.string().optional(),
  externalId: z.string().optional(),
  idle: IdlePolicy,
  snapshotLimits: SnapshotLimits.optional(),
  wakeBudget: WakeBudget.optional(),
  expiry: Expiry,
  terminatedRetentionMs: z.number().int(),
  extra: z.record(z.string(), z.unknown()),
  /** Attached before it is answered; all on one node. Absent: none. */
  volumes: VolumeMounts.optional(),
  createdBy: z.string(),
});
export type SandboxAsk = z.infer<typeof SandboxAsk>;

/** gateway → scheduler. `created` is answered only when the sandbox is usable. */
export const createSandbox = defineCall({
  subject: 'scheduler.sandbox.create.v1',
  request: SandboxAsk,
  reply: z.object({ kind: z.enum(['created', 'existing']), sandbox: Sandbox, route: Route }),
  deadlineMs: 60_000,
});

/** gateway → scheduler: a change in place. Only what is present changes; `expiry` and `labels` replace whole. A changed `env` restarts the sandbox. */
export const updateSandbox = defineCall({
  subject: 'scheduler.sandbox.update.v1',
  request: z.object({
    workspace: WorkspaceName,
    name: SandboxName,
    labels: z.record(z.string(), z.string()).optional(),
    displayName: z.string().optional(),
    externalId: z.string().optional(),
    idle: IdlePolicy.optional(),
    snapshotLimits: SnapshotLimits.optional(),
    /** Null: that of its workspace from now on. */
    wakeBudget: WakeBudget.nullable().optional(),
    expiry: Expiry.optional(),
    terminatedRetentionMs: z.number().int().optional(),
    env: Env.optional(),
    extra: z.record(z.string(), z.unknown()).optional(),
  }),
  reply: z.object({ sandbox: Sandbox }),
  deadlineMs: 60_000,
});

/** gateway → scheduler. Answers the sandbox as it was ended; `not_found` when no living one has the name. */
export const deleteSandbox = defineCall({
  subject: 'scheduler.sandbox.delete.v1',
  request: z.object({
    workspace: WorkspaceName,
    name: SandboxName,
    reason: z.string(),
    /** The snapshots that somebody asked for stay. */
    keepSnapshots: z.boolean().optional(),
  }),
  reply: z.object({ sandbox: Sandbox }),
  deadlineMs: 30_000,
});

/** scheduler → node: make this instance, from the pool or cold. Answers when the guest has its identity and answers. */
export const startInstance = defineCall({
  subject: 'node.{node}.instance.start.v1',
  request: z.object({
    instanceId: InstanceId,
    generation: Generation,
    workspace: WorkspaceName,
    name: SandboxName,
    template: z.string(),
    shape: Shape,
    env: Env,
    idle: IdlePolicy,
    snapshotLimits: SnapshotLimits.optional(),
    wakeBudget: WakeBudget.optional(),
    /** Makes it a fork: of this snapshot of an instance that is on the same node. Template and shape are its parent's, the generation is a greater one. */
    from: z.object({ instanceId: InstanceId, snapshot: z.string() }).optional(),
    /** Attached and mounted before it is answered. A fork's are copies of what the snapshot holds. */
    volumes: z
      .array(AttachedVolume.extend({ copy: z.object({ of: VolumeId, sizeMib: VolumeSize }).optional() }))
      .optional(),
  }),
  reply: z.object({ from: z.enum(['pool', 'cold', 'fork', 'existing']), isolation: Isolation, tookMs: z.number() }),
  deadlineMs: 45_000,
});

/** scheduler → node: end it; twice is once. Answers when the instance can no longer run; its traces on the host go in the background, journaled. */
export const stopInstance = defineCall({
  subject: 'node.{node}.instance.stop.v1',
  request: z.object({
    instanceId: InstanceId,
    generation: Generation,
    reason: z.string(),
    /** Snapshots of it that stay, by id: to be forked, listed and deleted as if it were there. Absent: none. */
    keep: z.array(z.string()).optional(),
  }),
  reply: z.object({ existed: z.boolean() }),
  deadlineMs: 20_000,
});

/** The whole of it: without a wake budget it has none. */
export const setInstancePolicy = defineCall({
  subject: 'node.{node}.instance.policy.v1',
  request: z.object({
    instanceId: InstanceId,
    generation: Generation,
    idle: IdlePolicy,
    /** Absent: none. */
    wakeBudget: WakeBudget.optional(),
    /** Absent: as they are. */
    snapshotLimits: SnapshotLimits.optional(),
  }),
  reply: z.object({}),
  deadlineMs: 5_000,
});

/** gateway → node, for a person's `pause` and `resume`. */
export const pauseInstance = defineCall({
  subject: 'node.{node}.instance.pause.v1',
  request: z.object({ instanceId: InstanceId, generation: Generation }),
  reply: z.object({ state: InstanceState, tookMs: z.number() }),
  deadlineMs: 10_000,
});
export const resumeInstance = defineCall({
  subject: 'node.{node}.instance.resume.v1',
  /** `filesOnly`: its memory is given up, its images are kept unused, and it starts anew with its files, on what sandboxes are made of now. Only of a stored one. */
  request: z.object({ instanceId: InstanceId, generation: Generation, filesOnly: z.boolean().optional() }),
  /** `lost`: what this wake did not bring back. */
  reply: z.object({ state: InstanceState, tookMs: z.number(), lost: z.string().optional() }),
  deadlineMs: 10_000,
});

/** Puts it to sleep if it is not, makes an image and lets go of its RAM. Answers when that is done, or a request came in between. */
export const storeInstance = defineCall({
  subject: 'node.{node}.instance.store.v1',
  request: z.object({ instanceId: InstanceId, generation: Generation }),
  /** `reason`: why it is not stored, where its node knows one. */
  reply: z.object({ state: InstanceState, tookMs: z.number(), reason: z.string().optional() }),
  deadlineMs: 120_000,
});

/** Puts it to sleep if it is not, and has its memory paged out. Answers when that is done, or a request came in between. */
export const leanInstance = defineCall({
  subject: 'node.{node}.instance.lean.v1',
  request: z.object({ instanceId: InstanceId, generation: Generation }),
  /** `reason`: why it is not lean, where its node knows one. */
  reply: z.object({ state: InstanceState, tookMs: z.number(), reason: z.string().optional() }),
  deadlineMs: 60_000,
});

/** What was measured of an instance's wakes from one tier, ms. */
export const WakeRecord = z.object({
  lastMs: z.number(),
  /** To be expected of the next: what nine in ten of them did not exceed, the latest counting most. */
  predictedMs: z.number(),
  /** How many of the last ones this is learnt from. */
  measured: z.number().int(),
});
export type WakeRecord = z.infer<typeof WakeRecord>;

/** An instance's wakes by the tier that they came from; absent where none was measured yet. */
export const Wakes = z.object({
  paused: WakeRecord.optional(),
  lean: WakeRecord.optional(),
  stored: WakeRecord.optional(),
  files: WakeRecord.optional(),
});
export type Wakes = z.infer<typeof Wakes>;

/** What a wake did not bring back. */
export const Loss = z.object({
  /** When it was found out. */
  atMs: z.number(),
  /** What came back: an older image, the files alone, or the newest image with something missing that no older one would have had either. */
  to: z.enum(['image', 'files', 'flawed']),
  reason: z.string(),
});
export type Loss = z.infer<typeof Loss>;

/** A point of one instance that can be gone back to, and forked: its files, memory and processes at one moment. */
export const Snapshot = z.object({
  /** Never reused. */
  id: z.string(),
  name: z.string().optional(),
  /**
   * All but `asked` are made by themselves, and the oldest of these go by themselves: to make a `fork` of, of what a `restore` replaced, what it sleeps in or
   * woke from last (`store`), the last image of what has died since and went on from its files (`death`), the disk of what has died since and went back to an
   * image (`fall-back`: that has no memory, and whoever goes back to it starts anew on its files), to `compare` files with for as long as that takes, and of what
   * was there before a `merge`.
   */
  because: z.enum(['asked', 'fork', 'restore', 'store', 'death', 'fall-back', 'compare', 'merge']),
  /** Only `ready` ones can be used. `failed` ones came to nothing, and are told of for a while. */
  state: z.enum(['making', 'ready', 'failed']),
  reason: z.string().optional(),
  /** Of what it holds. */
  atMs: z.number(),
  /** What its memory takes on disk. */
  bytes: z.number().optional(),
  by: z.string().optional(),
  /** The volumes that it holds, as they were in the same instant. */
  volumes: z.array(AttachedVolume.extend({ sizeMib: z.number() })).optional(),
});
export type Snapshot = z.infer<typeof Snapshot>;

const OneSnapshot = z.object({
  instanceId: InstanceId,
  generation: Generation,
  /** Its id or its name. */
  snapshot: SnapshotName,
});

/** gateway or scheduler → node: make one, of an instance that runs, sleeps or is stored. Answers when it was saved, sealed and read back. */
export const makeSnapshot = defineCall({
  subject: 'node.{node}.snapshot.make.v1',
  request: z.object({
    instanceId: InstanceId,
    generation: Generation,
    name: SnapshotName.optional(),
    because: z.enum(['asked', 'fork']),
    by: z.string().optional(),
  }),
  reply: z.object({ snapshot: Snapshot }),
  deadlineMs: 120_000,
});

/** gateway → scheduler: make one that a person asked for, and put it on record. Answers as `makeSnapshot`. */
export const snapshotSandbox = defineCall({
  subject: 'scheduler.sandbox.snapshot.v1',
  request: z.object({
    workspace: WorkspaceName,
    name: SandboxName,
    /** What to call it. */
    snapshot: SnapshotName.optional(),
    by: z.string(),
  }),
  reply: z.object({ snapshot: Snapshot }),
  deadlineMs: 130_000,
});

/** gateway → scheduler: let one go, of a sandbox that lives, by its id or name; without `name` any of the workspace, by its id. Answers as `deleteSnapshot`. */
export const dropSnapshot = defineCall({
  subject: 'scheduler.sandbox.snapshot-drop.v1',
  request: z.object({ workspace: WorkspaceName, name: SandboxName.optional(), snapshot: SnapshotName }),
  reply: z.object({ snapshot: Snapshot }),
  deadlineMs: 70_000,
});

/** All that there are, the oldest first; also of an instance that has ended but for them. */
export const listSnapshots = defineCall({
  subject: 'node.{node}.snapshot.list.v1',
  request: z.object({ instanceId: InstanceId, generation: Generation }),
  reply: z.object({ snapshots: z.array(Snapshot) }),
  deadlineMs: 5_000,
});

/**
 * gateway → scheduler: back to what a snapshot of it holds, in place. From its first commit on the sandbox has a greater generation, whatever becomes of the
 * restore: whoever asks for the older one is told so by the node. `before` is the snapshot of what was there.
 */
export const restoreSandbox = defineCall({
  subject: 'scheduler.sandbox.restore.v1',
  request: z.object({
    workspace: WorkspaceName,
    name: SandboxName,
    /** Its id or its name. */
    snapshot: SnapshotName,
  }),
  reply: z.object({
    sandbox: Sandbox,
    route: Route,
    snapshot: Snapshot,
    before: Snapshot.optional(),
    tookMs: z.number(),
  }),
  deadlineMs: 200_000,
});

/** scheduler → node, under the generation that the restore has given it. Answers when the instance runs again. */
export const restoreSnapshot = defineCall({
  subject: 'node.{node}.snapshot.restore.v1',
  request: OneSnapshot,
  reply: z.object({ snapshot: Snapshot, before: Snapshot.optional(), tookMs: z.number() }),
  deadlineMs: 180_000,
});

/** Answers the one that is gone, when the space that only it needed is free. */
export const deleteSnapshot = defineCall({
  subject: 'node.{node}.snapshot.delete.v1',
  request: OneSnapshot,
  reply: z.object({ snapshot: Snapshot }),
  deadlineMs: 60_000,
});

/**
 * gateway → scheduler: another sandbox with the memory, processes and files of this one, as they are now or as a snapshot holds them. It runs on the same
 * node under a name, token, generation, host name and machine id of its own. `env` is added to its parent's.
 */
export const forkSandbox = defineCall({
  subject: 'scheduler.sandbox.fork.v1',
  request: z.object({
    workspace: WorkspaceName,
    /** Absent: of the snapshot's sandbox as it was then, which need not live any more. */
    name: SandboxName.optional(),
    /** Its id or its name. Absent: one is made. Without the name of a sandbox its id, which must be on record. */
    snapshot: SnapshotName.optional(),
    /** Of the fork. Absent: the scheduler finds one. */
    as: SandboxName.optional(),
    env: Env,
    createdBy: z.string(),
  }),
  reply: z.object({ sandbox: Sandbox, route: Route, snapshot: z.string() }),
  deadlineMs: 180_000,
});

/** What sleeping costs an instance, tier by tier, and what it does about that. Times are ms, costs are per hour in the currency of the node's prices. */
export const SleepOutlook = z.object({
  tiers: z.array(
    z.object({
      tier: WakeTier,
      ramBytes: z.number(),
      diskBytes: z.number(),
      costPerHour: z.number(),
      /** To be expected of a wake from there: half of them take no longer, and 99 in 100. `measured`: of how many this is learnt; of 0, it is supposed. */
      wakeP50Ms: z.number(),
      wakeP99Ms: z.number(),
      measured: z.number().int(),
      /** It goes there after so much sleep. Absent: not by itself. */
      afterMs: z.number().optional(),
    }),
  ),
  /** Of a budget. `wakes`: how many of the last count, the older ones less; `over`: of those, how many took longer; `expectedOver`: which share will. */
  budget: z
    .object({ wakes: z.number(), over: z.number(), expectedOver: z.number(), isPromised: z.boolean() })
    .optional(),
});
export type SleepOutlook = z.infer<typeof SleepOutlook>;

/** What a node knows of one instance. */
export const InstanceReport = z.object({
  instanceId: InstanceId,
  generation: Generation,
  workspace: WorkspaceName,
  name: SandboxName,
  state: InstanceState,
  isolation: Isolation,
  lastUsedAtMs: z.number(),
  /** Why it is awake (`request`, `stream`, `keep-alive process`, `policy never`) or why it sleeps (`idle`, `asked`). */
  because: z.string(),
  /** The policy that the node goes by. Given, it lets the scheduler notice one that it was never told. */
  idle: IdlePolicy.optional(),
  /** Absent beside an idle policy: it goes by none. */
  wakeBudget: WakeBudget.optional(),
  /** Measured when it was asked for: what of it is in RAM, and what in swap. */
  memoryMib: z.number().optional(),
  swapMib: z.number().optional(),
  reason: z.string().optional(),
  /** How deep it sleeps. Absent while it is awake. */
  tier: WakeTier.optional(),
  /** Somebody waits for what it does, which cannot be cut short. */
  queuedWake: z.boolean().optional(),
  /** What its next wake from where it sleeps, and its next store, may be expected to take, ms; learnt from the last ones. Absent: none was measured yet. */
  wakeMs: z.number().optional(),
  storeMs: z.number().optional(),
  wakes: Wakes.optional(),
  /** What all its images take on disk, and when the newest was made. */
  imageBytes: z.number().optional(),
  imageAtMs: z.number().optional(),
  /** Somebody asked for it to be stored, and nobody has used it since. */
  storeAsked: z.boolean().optional(),
  /** The last time that a wake did not bring back everything. */
  lost: Loss.optional(),
  outlook: SleepOutlook.optional(),
  /** The name under which the host knows it: its cgroup, namespace and journal. A pooled instance has one before its id. */
  hostId: InstanceId.optional(),
});
export type InstanceReport = z.infer<typeof InstanceReport>;

export const describeInstance = defineCall({
  subject: 'node.{node}.instance.describe.v1',
  request: z.object({ instanceId: InstanceId }),
  reply: z.object({ instance: InstanceReport.optional() }),
  deadlineMs: 3_000,
});

/** gateway → node: the receipts of an instance's last wakes from disk, the oldest first. */
export const listReceipts = defineCall({
  subject: 'node.{node}.instance.receipts.v1',
  request: z.object({ instanceId: InstanceId, generation: Generation }),
  reply: z.object({ receipts: z.array(SignedReceipt) }),
  deadlineMs: 5_000,
});

/** Something that befell an instance and is in its node's journal: an image's time is that of what it holds. */
export const InstanceEvent = z.object({
  atMs: z.number(),
  what: z.enum([
    'created',
    'stored',
    'snapshot',
    /** What it slept in is kept as a snapshot. */
    'kept',
    'let go',
    'not made',
    /** From another node. */
    'arrived',
    'went back',
    /** The disk, before an image's came in its place. */
    'put aside',
    'woke from image',
    'woke from files',
    'refused',
    'died',
  ]),
  image: z.string().optional(),
  name: z.string().optional(),
  because: z.string().optional(),
  bytes: z.number().optional(),
  reason: z.string().optional(),
});
export type InstanceEvent = z.infer<typeof InstanceEvent>;

/** gateway → node: the oldest first, of a long life the last. */
export const tellHistory = defineCall({
  subject: 'node.{node}.instance.history.v1',
  request: z.object({ instanceId: InstanceId, generation: Generation }),
  reply: z.object({ events: z.array(InstanceEvent) }),
  deadlineMs: 5_000,
});

/** gateway → node: the public key that its receipts are signed by, base64. */
export const receiptKey = defineCall({
  subject: 'node.{node}.receipt-key.v1',
  request: z.object({}),
  reply: z.object({ key: z.string() }),
  deadlineMs: 3_000,
});

/** A heartbeat tells of every instance of a node in one message: no more than the scheduler goes by. Callers are told the rest, of one at a time. */
const HeldInstance = InstanceReport.omit({
  tier: true,
  queuedWake: true,
  wakeMs: true,
  storeMs: true,
  wakes: true,
  swapMib: true,
  imageBytes: true,
  imageAtMs: true,
  storeAsked: true,
  lost: true,
  outlook: true,
});

/** node → scheduler, every few seconds: what is. The answer renews the node's lease and says what the node must end. */
export const heartbeat = defineCall({
  subject: 'scheduler.node.heartbeat.v1',
  request: z.object({
    nodeId: NodeId,
    /** Where the gateway reaches this node's data plane. */
    url: z.string(),
    isolation: Isolation,
    templates: z.array(z.string()),
    capacity: z.object({
      memoryMib: z.number(),
      memoryFreeMib: z.number(),
      /** All that its disks may take together. */
      diskMib: z.number().optional(),
      diskFreeMib: z.number(),
      slotsFree: z.number().int(),
      /** Absent from a node that does not say. */
      swap: NodeSwap.optional(),
    }),
    pool: z.array(z.object({ template: z.string(), shape: Shape, ready: z.number().int(), target: z.number().int() })),
    instances: z.array(HeldInstance),
  }),
  reply: z.object({
    leaseMs: z.number(),
    /** Instances the node holds that nobody wants (any more). */
    unwanted: z.array(
      z.object({ instanceId: InstanceId, generation: Generation, keep: z.array(z.string()).optional() }),
    ),
  }),
  deadlineMs: 5_000,
});

/** A closed stretch of use. Booking it twice counts once: (instanceId, generation, sequence) is its key. */
export const UsageInterval = z.object({
  workspace: WorkspaceName,
  instanceId: InstanceId,
  generation: Generation,
  sequence: z.number().int().min(0),
  fromMs: z.number(),
  toMs: z.number(),
  /**
   * `lean`: what it used of RAM is what was left there. `stored`: it used disk alone. `volume`: of a volume, by its id; its files, whoever has it.
   */
  tier: z.enum(['running', 'paused', 'lean', 'stored', 'volume']),
  cpuMs: z.number(),
  memoryMibMs: z.number(),
  egressBytes: z.number(),
  /** Its files and its images. */
  diskMib: z.number(),
  /** The sleep ended with a wake, which brought back everything or did not. */
  wake: z.enum(['whole', 'lost']).optional(),
});
export type UsageInterval = z.infer<typeof UsageInterval>;

/** node → scheduler: book these. Answered after the commit. */
export const bookUsage = defineCall({
  subject: 'scheduler.usage.book.v1',
  request: z.object({ nodeId: NodeId, intervals: z.array(UsageInterval).max(1000) }),
  reply: z.object({ booked: z.number().int() }),
  deadlineMs: 10_000,
});

/** Something happened to an instance. A hint for watchers, never the record. */
export const instanceChanged = defineFact({
  subject: 'events.instance.v1',
  body: z.object({
    atMs: z.number(),
    nodeId: NodeId,
    instance: InstanceReport,
    what: z.string(),
    traceId: z.string().optional(),
  }),
});

/** A key no longer opens anything: every gateway forgets what it remembers of it. `prefix` is the key's public part. */
export const keyRevoked = defineFact({
  subject: 'events.key.revoked.v1',
  body: z.object({ prefix: z.string() }),
});
