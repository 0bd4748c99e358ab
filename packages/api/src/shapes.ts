/** What first-party clients send and get. Times are ms since the epoch, sizes MiB. */
import {
  ENV_BYTES_MAX,
  envBytes,
  Expiry,
  Generation,
  IdlePolicy,
  InstanceId,
  InstanceReport,
  InstanceState,
  Isolation,
  NodeSwap,
  NodeId,
  Origin,
  SandboxName,
  SandboxPhase,
  Shape,
  SignedReceipt,
  SleepOutlook,
  WakeBudget,
  compareFiles,
  mergeFiles,
  Snapshot,
  SnapshotLimits,
  SnapshotName,
  TreePath,
  MountPath,
  Volume,
  VolumeMounts,
  VolumeName,
  VolumeSize,
  WorkspaceName,
} from '@torpor/contracts';
import { readScope } from '@torpor/policy';
import { z } from 'zod';

const text = (signsMax: number) =>
  z
    .string()
    .max(signsMax)
    .regex(/^[^\0]*$/, 'expected no NUL');
const label = text(1024);

const Env = z
  .record(
    z
      .string()
      .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'expected letters, digits and underscores, not starting with a digit')
      .max(256),
    text(131_072),
  )
  .refine((env) => envBytes(Object.entries(env)) <= ENV_BYTES_MAX, `expected at most ${ENV_BYTES_MAX} bytes in all`)
  .default({});

export const CreateSandboxInput = z.object({
  /** Absent: one is found. */
  name: SandboxName.optional(),
  /** Answer with the living sandbox of that name instead of a conflict. */
  reuse: z.boolean().default(false),
  /** A template's name or alias, such as `blaxel/node`; absent: the default one. */
  image: z.string().max(255).optional(),
  memoryMib: z.number().int().min(128).max(65_536).optional(),
  cpus: z.number().min(0.1).max(64).optional(),
  diskMib: z.number().int().min(64).max(1_048_576).optional(),
  env: Env,
  labels: z.record(label, label).default({}),
  displayName: text(63).optional(),
  idle: IdlePolicy.optional(),
  snapshotLimits: SnapshotLimits.optional(),
  wakeBudget: WakeBudget.optional(),
  expiry: Expiry.default({}),
  /** Attached before it is answered. */
  volumes: VolumeMounts.optional(),
  /** The same key and input give the same sandbox, however often they are sent. */
  idempotencyKey: z
    .string()
    .min(1)
    .max(200)
    .regex(/^[\x21-\x7e]+$/, 'expected visible ASCII signs')
    .optional(),
});
export type CreateSandboxInput = z.infer<typeof CreateSandboxInput>;

/** A change in place: only what is given changes. */
export const UpdateSandboxInput = z.object({
  name: SandboxName,
  idle: IdlePolicy.optional(),
  /** Null: that of the workspace. */
  wakeBudget: WakeBudget.nullable().optional(),
});
export type UpdateSandboxInput = z.infer<typeof UpdateSandboxInput>;

export const SandboxView = z.object({
  workspace: WorkspaceName,
  name: SandboxName,
  displayName: z.string().optional(),
  phase: SandboxPhase,
  reason: z.string().optional(),
  /** As its node last said; absent when nobody knows. */
  state: InstanceState.optional(),
  /** Why it is awake or asleep, in its node's words. */
  because: z.string().optional(),
  /** How it is kept apart from the host, as its node says. */
  isolation: Isolation.optional(),
  ...InstanceReport.pick({
    memoryMib: true,
    swapMib: true,
    tier: true,
    queuedWake: true,
    wakeMs: true,
    storeMs: true,
    wakes: true,
    imageBytes: true,
    imageAtMs: true,
    storeAsked: true,
    lost: true,
    hostId: true,
  }).shape,
  instanceId: InstanceId,
  generation: Generation,
  nodeId: NodeId,
  image: z.string(),
  template: z.string(),
  shape: Shape,
  labels: z.record(z.string(), z.string()),
  /** Of a fork: whose snapshot it was made from. */
  origin: Origin.optional(),
  envNames: z.array(z.string()),
  idle: IdlePolicy,
  snapshotLimits: SnapshotLimits.optional(),
  /** Its own. Absent: that of its workspace, if that has one. */
  wakeBudget: WakeBudget.optional(),
  /** The one that its node goes by; absent: none, or nobody knows. */
  effectiveBudget: WakeBudget.optional(),
  /** What sleeping costs it, tier by tier, and how it keeps its budget. */
  outlook: SleepOutlook.optional(),
  expiry: Expiry,
  /** Base of its data plane. */
  url: z.string(),
  createdAtMs: z.number(),
  createdBy: z.string(),
  lastUsedAtMs: z.number(),
});
export type SandboxView = z.infer<typeof SandboxView>;

export const ListInput = z.object({
  limit: z.number().int().min(1).max(200).default(50),
  cursor: z
    .string()
    .max(2_000)
    .regex(/^[\x21-\x7e]*$/, 'expected the nextCursor of an earlier answer')
    .optional(),
  q: text(200).optional(),
  showTerminated: z.boolean().default(false),
});
export type ListInput = z.infer<typeof ListInput>;

export const SandboxPageView = z.object({
  items: z.array(SandboxView),
  nextCursor: z.string().optional(),
  total: z.number().int(),
});
export type SandboxPageView = z.infer<typeof SandboxPageView>;

export const ByName = z.object({ name: SandboxName });

/** `filesOnly`: a stored sandbox's memory is given up, and it starts anew with its files. */
export const ResumeInput = ByName.extend({ filesOnly: z.boolean().optional() });
export type ResumeInput = z.infer<typeof ResumeInput>;

/** What a pause or resume did. */
export const StateView = z.object({ state: InstanceState, tookMs: z.number() });
export type StateView = z.infer<typeof StateView>;

/** What a resume did. `lost`: what the wake did not bring back. */
export const ResumeView = StateView.extend({ lost: z.string().optional() });
export type ResumeView = z.infer<typeof ResumeView>;

/** The receipts of a sandbox's last wakes from disk, the oldest first. */
export const ReceiptsView = z.array(SignedReceipt);
export type ReceiptsView = z.infer<typeof ReceiptsView>;

export const ByNode = z.object({ nodeId: NodeId });

/** What a node signs receipts with: its public half, base64. */
export const ReceiptKeyView = z.object({ key: z.string() });
export type ReceiptKeyView = z.infer<typeof ReceiptKeyView>;

/** What a store or a page-out did. `reason`: why it does not sleep that deep, where its node knows one. */
export const DeepenView = StateView.extend({ reason: z.string().optional() });
export type DeepenView = z.infer<typeof DeepenView>;
export const MakeSnapshotInput = z.object({ name: SandboxName, snapshot: SnapshotName.optional() });
export type MakeSnapshotInput = z.infer<typeof MakeSnapshotInput>;

/** A snapshot of a sandbox, by its id or its name. */
export const BySnapshot = z.object({ name: SandboxName, snapshot: SnapshotName });
export type BySnapshot = z.infer<typeof BySnapshot>;

/** As above; without `name` one of the workspace's, by its id, whose sandbox may have ended. */
export const AnySnapshot = BySnapshot.partial({ name: true });
export type AnySnapshot = z.infer<typeof AnySnapshot>;

/** All of one sandbox; without `name` those of the workspace that somebody asked for, also where their sandbox has ended. */
export const ListSnapshotsInput = z.object({ name: SandboxName.optional() });
export type ListSnapshotsInput = z.infer<typeof ListSnapshotsInput>;

export const SnapshotView = Snapshot.extend({
  /** `on record`: its node has made it, and was not asked now whether it still has it and can use it. */
  state: z.enum([...Snapshot.shape.state.options, 'on record']),
  /** Told where those of several sandboxes are listed: whose it is, and since when it is kept without that. */
  of: SandboxName.optional(),
  keptSinceMs: z.number().optional(),
});
export type SnapshotView = z.infer<typeof SnapshotView>;

/** What befell a sandbox, the oldest first. `id`: the snapshot that can be gone back to. */
export const HistoryView = z.array(
  z.object({
    atMs: z.number(),
    what: z.enum([
      'created',
      'slept',
      'stored',
      'woke',
      'snapshot',
      'deleted',
      'restored',
      'fork',
      'moved',
      'failed',
      'lost',
    ]),
    told: z.string(),
    id: z.string().optional(),
  }),
);
export type HistoryView = z.infer<typeof HistoryView>;

/** `last`: the newest snapshot. `base`: of a fork, what it was made of. A snapshot goes by its id or name. */
export const FilePointInput = z.object({
  name: SandboxName,
  at: z.union([z.literal('now'), z.literal('last'), z.literal('base'), z.object({ snapshot: SnapshotName })]),
});
export type FilePointInput = z.infer<typeof FilePointInput>;

export const DiffInput = z.object({ from: FilePointInput, to: FilePointInput, under: TreePath.optional() });
export type DiffInput = z.infer<typeof DiffInput>;

/** What changed, the first by their paths; `counts` and `unlisted` are of all. A directory that one side alone has is one change. */
export const DiffView = compareFiles.reply;
export type DiffView = z.infer<typeof DiffView>;

/**
 * What a fork has changed since its base, into the sandbox that it was forked from. With conflicts nothing is merged, unless `settle` says whose side is taken
 * in all of them.
 */
export const MergeInput = z.object({
  fork: SandboxName,
  into: SandboxName,
  settle: z.enum(['fork', 'here']).optional(),
  dryRun: z.boolean().default(false),
  under: TreePath.optional(),
});
export type MergeInput = z.infer<typeof MergeInput>;

/** `before`: a snapshot of what was there until then, where anything was changed. */
export const MergeView = mergeFiles.reply;
export type MergeView = z.infer<typeof MergeView>;

/** Its snapshots go with it, unless those that somebody asked for are to stay. */
export const DeleteSandboxInput = z.object({ name: SandboxName, keepSnapshots: z.boolean().default(false) });
export type DeleteSandboxInput = z.infer<typeof DeleteSandboxInput>;

/** `before`: a snapshot of what the sandbox was until then. */
export const RestoredView = z.object({ snapshot: SnapshotView, before: SnapshotView.optional(), tookMs: z.number() });
export type RestoredView = z.infer<typeof RestoredView>;

const ForkShape = z.object({
  /** Absent: of a snapshot by its id, whose sandbox may have ended. */
  name: SandboxName.optional(),
  /** By id or name; absent: one is made, and all are forks of it. */
  snapshot: SnapshotName.optional(),
  /** Of the fork; of several, what their names begin with. */
  as: SandboxName.optional(),
  count: z.number().int().min(1).max(100).default(1),
  /** Added to the parent's, for what is started in them from now on. */
  env: Env,
});
export const ForkInput = ForkShape.refine(
  ({ name, snapshot }) => name !== undefined || snapshot !== undefined,
  'expected the name of a sandbox, or the id of a snapshot, or both',
);
export type ForkInput = z.infer<typeof ForkInput>;

/** `failed`: of several, those that could not be made. */
export const ForksView = z.object({
  snapshot: z.string(),
  forks: z.array(SandboxView),
  failed: z.array(z.object({ name: z.string().optional(), code: z.string(), message: z.string() })),
});
export type ForksView = z.infer<typeof ForksView>;

export const CreateVolumeInput = z.object({
  name: VolumeName,
  /** Absent: 1024, or as large as what it is made from. */
  sizeMib: VolumeSize.optional(),
  /** A volume, or a snapshot of one: it begins with what that holds now. */
  from: VolumeName.optional(),
});
export type CreateVolumeInput = z.infer<typeof CreateVolumeInput>;

export const ByVolume = z.object({ name: VolumeName });
export type ByVolume = z.infer<typeof ByVolume>;
export const SnapshotVolumeInput = z.object({ name: VolumeName, as: VolumeName });
export type SnapshotVolumeInput = z.infer<typeof SnapshotVolumeInput>;
export const ResizeVolumeInput = z.object({ name: VolumeName, sizeMib: VolumeSize });
export type ResizeVolumeInput = z.infer<typeof ResizeVolumeInput>;
export const AttachVolumeInput = z.object({ name: VolumeName, sandbox: SandboxName, path: MountPath });
export type AttachVolumeInput = z.infer<typeof AttachVolumeInput>;

/** `usedMib`: absent when its node does not say. */
export const VolumeView = Volume.omit({ workspace: true, updatedAtMs: true }).extend({
  usedMib: z.number().optional(),
});
export type VolumeView = z.infer<typeof VolumeView>;

export const CreateKeyInput = z.object({
  name: text(100).min(1),
  role: z.enum(['admin', 'member']).default('member'),
  /** Absent: everything that the role may. */
  scopes: z
    .array(
      z
        .string()
        .refine(
          (text) => readScope(text) !== undefined,
          'expected "*", "<things>:*" or an action such as "sandboxes:read"',
        ),
    )
    .max(50)
    .optional(),
  /** Ms from now; absent: it does not expire. At most ten years. */
  lifeMs: z.number().int().min(1_000).max(315_576_000_000).optional(),
});
export type CreateKeyInput = z.infer<typeof CreateKeyInput>;

export const KeyView = z.object({
  id: z.string(),
  prefix: z.string(),
  name: z.string(),
  subject: z.string(),
  role: z.enum(['admin', 'member']),
  /** Absent: everything that the role may. */
  scopes: z.array(z.string()).optional(),
  createdAtMs: z.number(),
  expiresAtMs: z.number().optional(),
  lastUsedAtMs: z.number().optional(),
  revokedAtMs: z.number().optional(),
});
export type KeyView = z.infer<typeof KeyView>;

/** `text` is the whole key. It is shown this once. */
export const NewKeyView = z.object({ key: KeyView, text: z.string() });
export type NewKeyView = z.infer<typeof NewKeyView>;

export const RevokeKeyInput = z.object({
  id: z
    .string()
    .min(1)
    .max(64)
    .regex(/^[a-z0-9-]+$/, 'expected the id of a key, as `torpor key list` shows it'),
});

export const NodeView = z.object({
  id: NodeId,
  url: z.string(),
  isolation: Isolation,
  templates: z.array(z.string()),
  capacity: z.object({
    memoryMib: z.number(),
    memoryFreeMib: z.number(),
    diskFreeMib: z.number(),
    slotsFree: z.number(),
    /** What its host swaps to, and whether sandboxes are paged out there. Absent from a node that does not say. */
    swap: NodeSwap.optional(),
  }),
  pool: z.array(z.object({ template: z.string(), shape: Shape, ready: z.number(), target: z.number() })),
  heardAtMs: z.number(),
  /** Somebody wants it empty. */
  drainingSinceMs: z.number().optional(),
});
/** `left`: how many live there. `troubles`: why some have not moved; they are tried again. `stays`: how much there is that does not travel. */
export const NodeDetailView = NodeView.extend({
  left: z.number(),
  moving: z.number(),
  troubles: z.array(z.object({ workspace: WorkspaceName, name: SandboxName, reason: z.string() })),
  stays: z.object({ volumes: z.number(), snapshots: z.number() }),
});
export type NodeDetailView = z.infer<typeof NodeDetailView>;

/** `to` absent: where there is room. */
export const MoveInput = z.object({ name: SandboxName, to: NodeId.optional() });
export type MoveInput = z.infer<typeof MoveInput>;
export const MovedView = z.object({ from: NodeId, to: NodeId, bytes: z.number(), tookMs: z.number() });
export type MovedView = z.infer<typeof MovedView>;
export type NodeView = z.infer<typeof NodeView>;

export const WorkspaceView = z.object({
  name: WorkspaceName,
  displayName: z.string(),
  /** Of its sandboxes that have none of their own. */
  wakeBudget: WakeBudget.optional(),
  createdAtMs: z.number(),
});
export type WorkspaceView = z.infer<typeof WorkspaceView>;

/** Of the caller's own workspace. Null takes it away. */
export const WorkspaceBudgetInput = z.object({ wakeBudget: WakeBudget.nullable() });
export type WorkspaceBudgetInput = z.infer<typeof WorkspaceBudgetInput>;

/** Something that happened to a sandbox of the workspace. A hint for watchers, never the record. */
export const EventView = z.object({
  atMs: z.number(),
  nodeId: NodeId,
  name: SandboxName,
  instanceId: InstanceId,
  state: InstanceState,
  what: z.string(),
  because: z.string(),
});
export type EventView = z.infer<typeof EventView>;

export const StatsInput = z.object({
  /** The span that usage is summed over, ending now. Default a day. */
  spanMs: z.number().int().min(1_000).max(31_622_400_000).default(86_400_000),
});

export const StatsView = z.object({
  sandboxes: z.object({ living: z.number(), running: z.number(), asleep: z.number() }),
  usage: z.object({
    runningMs: z.number(),
    pausedMs: z.number(),
    leanMs: z.number(),
    storedMs: z.number(),
    cpuMs: z.number(),
    memoryMibMs: z.number(),
    egressBytes: z.number(),
    diskMibMs: z.number(),
  }),
  /** All wakes, from whichever tier, and those among them that did not bring back everything. */
  wakes: z.object({ all: z.number(), lost: z.number() }),
});
export type StatsView = z.infer<typeof StatsView>;

/** Who the caller is, as the gateway knows it. */
export const CallerView = z.object({
  workspace: WorkspaceName,
  subject: z.string(),
  role: z.enum(['admin', 'member']),
  /** Absent: everything that the role may. */
  scopes: z.array(z.string()).optional(),
});
export type CallerView = z.infer<typeof CallerView>;
