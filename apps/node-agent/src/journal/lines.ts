/**
 * What a journal says, line by line. A journal is kept per *host id*: the name under which the host knows an
 * instance (its cgroup, netns, disk). A pooled instance has one before anybody knows whose it will be; the claim gives it an instance id and a generation.
 */
import {
  Generation,
  IdlePolicy,
  InstanceEvent,
  InstanceId,
  NodeId,
  SandboxName,
  Shape,
  SnapshotLimits,
  VolumeId,
  WakeBudget,
  WorkspaceName,
} from '@torpor/contracts';
import { z } from 'zod';
import { CensusShape } from '../receipts/census.ts';

export const Spec = z.object({
  slot: z.number().int(),
  template: z.string(),
  shape: Shape,
  /** Accepted by the guest until the claim. */
  bootToken: z.string(),
});
export type Spec = z.infer<typeof Spec>;

/** Whose an instance is. A half-claimed instance is destroyed. */
export const Claim = z.object({
  instanceId: InstanceId,
  generation: Generation,
  workspace: WorkspaceName,
  name: SandboxName,
  token: z.string(),
  /** Where relative paths start. */
  workdir: z.string(),
  idle: IdlePolicy,
  /** Where they differ from the node's. */
  snapshotLimits: SnapshotLimits.optional(),
  wakeBudget: WakeBudget.optional(),
  /** Its environment, sealed under the node's key: the guest has it, and only who has lost the guest's memory needs it again. */
  sealedEnv: z.string().optional(),
});
export type Claim = z.infer<typeof Claim>;

/** How it sleeps. Without a wake budget it goes by the times of its node. */
export type SleepPolicy = Pick<Claim, 'idle' | 'wakeBudget'>;

/** What of it may be changed while it lives. */
export type Policy = SleepPolicy & Pick<Claim, 'snapshotLimits'>;

const Process = z.object({
  pid: z.number().optional(),
  startTicks: z.number().optional(),
  build: z.string().optional(),
});
export type Process = z.infer<typeof Process>;

/** Why a snapshot is kept, and what somebody calls it. */
export const SnapshotNote = z.object({
  name: z.string().optional(),
  /**
   * All but `asked` by itself: to make a `fork` of, before a `restore` replaced what was there, because somebody wants what it slept in (`store`), or when a
   * `death` left files that are newer.
   */
  because: z.enum(['asked', 'fork', 'restore', 'store', 'death', 'compare', 'merge']),
  by: z.string().optional(),
});
export type SnapshotNote = z.infer<typeof SnapshotNote>;

/** A volume that an image holds, as it was attached then. */
export const HeldVolume = z.object({
  volume: VolumeId,
  generation: Generation,
  name: z.string(),
  path: z.string(),
  sizeMib: z.number(),
});
export type HeldVolume = z.infer<typeof HeldVolume>;

const volumes = z.array(HeldVolume).optional();

/** The name that the disk as it is now is kept under, what people know it by, and the volumes that are kept with it. */
const keeping = { keep: z.string().optional(), keepName: z.string().optional(), volumes };
const steps = z.array(z.string());
const atMs = z.number();

/** An image that came from another node. */
const Arrived = z.object({
  image: z.string(),
  /** Under this node's key. */
  sealedKey: z.string(),
  atMs,
  bytes: z.number(),
  memoryBytes: z.number(),
  census: CensusShape.optional(),
  /** That its guest believes in: it is told of its own before anybody is let in. */
  generation: z.number(),
});

export const Line = z.union([
  z.object({ kind: z.literal('intent'), operation: z.literal('create'), atMs, steps, spec: Spec }),
  z.object({ kind: z.literal('intent'), operation: z.literal('claim'), atMs, steps, claim: Claim }),
  z.object({
    kind: z.literal('intent'),
    operation: z.literal('destroy'),
    atMs,
    steps,
    reason: z.string(),
    keep: z.array(z.string()).optional(),
  }),
  /** Nothing is left of it but these snapshots. */
  z.object({ kind: z.literal('remains'), atMs, images: z.array(z.string()) }),
  z.object({
    kind: z.literal('intent'),
    operation: z.literal('store'),
    atMs,
    steps,
    image: z.string(),
    sealedKey: z.string(),
    /** What ran and listened when it fell asleep. */
    census: CensusShape.optional(),
    volumes,
  }),
  z.object({
    kind: z.literal('intent'),
    operation: z.literal('snapshot'),
    atMs,
    steps,
    image: z.string(),
    sealedKey: z.string(),
    note: SnapshotNote,
    /** What ran and listened when it fell asleep. */
    census: CensusShape.optional(),
    volumes,
  }),
  z.object({ kind: z.literal('intent'), operation: z.literal('release'), atMs, steps }),
  z.object({
    kind: z.literal('intent'),
    operation: z.literal('restore'),
    atMs,
    steps,
    image: z.string(),
    ...keeping,
  }),
  z.object({ kind: z.literal('intent'), operation: z.literal('boot'), atMs, steps, ...keeping }),
  z.object({ kind: z.literal('intent'), operation: z.literal('forget'), atMs, steps, images: z.array(z.string()) }),
  /** It is to live on another node: all of it rests in its images, and nothing wakes it until it is known where it lives. */
  z.object({ kind: z.literal('intent'), operation: z.literal('leave'), atMs, steps, to: NodeId }),
  /** A copy of it is to be carried away; meanwhile nothing wakes it. */
  z.object({ kind: z.literal('intent'), operation: z.literal('copy'), atMs, steps }),
  /** It lives here after all. */
  z.object({ kind: z.literal('intent'), operation: z.literal('stay'), atMs, steps }),
  /** One comes from another node, and these images with it. */
  z.object({
    kind: z.literal('intent'),
    operation: z.literal('arrive'),
    atMs,
    steps,
    spec: Spec,
    images: z.array(z.string()),
  }),
  /** All of it is here, read back and compared. */
  z.object({
    kind: z.literal('arrived'),
    atMs,
    claim: Claim,
    images: z.array(Arrived),
    snapshots: z.array(Arrived.extend({ note: SnapshotNote })),
    /** Disks that fall-backs have put aside there. */
    asides: z.array(z.object({ image: z.string(), atMs, name: z.string().optional() })).optional(),
    count: z.number().int(),
    /** What befell it on other nodes. */
    history: z.array(InstanceEvent).optional(),
  }),
  z.object({ kind: z.literal('step'), operation: z.string(), atMs, step: z.string() }),
  z.object({ kind: z.literal('done'), operation: z.literal('create'), atMs, process: Process }),
  z.object({ kind: z.literal('done'), operation: z.literal('claim'), atMs }),
  z.object({
    kind: z.literal('done'),
    operation: z.literal('store'),
    atMs,
    bytes: z.number(),
    memoryBytes: z.number().optional(),
  }),
  z.object({
    kind: z.literal('done'),
    operation: z.literal('snapshot'),
    atMs,
    image: z.string(),
    bytes: z.number(),
    memoryBytes: z.number(),
  }),
  z.object({ kind: z.literal('done'), operation: z.literal('release'), atMs }),
  z.object({ kind: z.literal('done'), operation: z.enum(['restore', 'boot']), atMs, process: Process }),
  z.object({ kind: z.literal('done'), operation: z.literal('forget'), atMs, images: z.array(z.string()) }),
  /** No snapshot became of it. */
  z.object({ kind: z.literal('unmade'), atMs, image: z.string(), reason: z.string() }),
  /** The newest image, which is all of it, is kept as a snapshot, too. */
  z.object({ kind: z.literal('kept'), atMs, image: z.string(), note: SnapshotNote }),
  /** The image is kept as a snapshot no longer. */
  z.object({ kind: z.literal('unkept'), atMs, image: z.string() }),
  /** Nothing of it runs, and its next wake goes back to this snapshot. */
  z.object({ kind: z.literal('rewound'), atMs, image: z.string() }),
  /** An image that a restore refused. `isWhole`: its bytes are what was written, all the same. */
  z.object({
    kind: z.literal('damaged'),
    atMs,
    image: z.string(),
    reason: z.string(),
    isWhole: z.boolean().optional(),
  }),
  /** It lives in RAM after all, although a release or a restore has begun: what the images hold is all of it no longer. `process`: as it was found. */
  z.object({ kind: z.literal('lives'), atMs, process: Process.optional() }),
  /** Its process is gone, and it falls back to an image, or to its files when it died of being stored, or `ofItself`: by what ran inside. */
  z.object({ kind: z.literal('died'), atMs, reason: z.string(), ofItself: z.boolean().optional() }),
  /** Limits that are not told stay; a wake budget that is not told is no more. */
  z.object({
    kind: z.literal('policy'),
    atMs,
    idle: IdlePolicy,
    wakeBudget: WakeBudget.optional(),
    snapshotLimits: SnapshotLimits.optional(),
  }),
  /** The record has given it a greater generation: whoever asks for an older one is turned away. */
  z.object({ kind: z.literal('raised'), atMs, generation: Generation }),
  z.object({ kind: z.literal('failed'), atMs, reason: z.string() }),
]);
export type Line = z.infer<typeof Line>;
export type DoneLine = Extract<Line, { kind: 'done' }>;
export type IntentLine = Extract<Line, { kind: 'intent' }>;

/** Reads a journal's text. What follows the last newline was torn by a crash: it was never acted upon. Any other bad line is damage, and thrown. */
export function readLines(text: string): Line[] {
  return readRows(text).map((row) => Line.parse(row));
}

export function readRows(text: string): unknown[] {
  const rows = text.slice(0, wholeLength(text)).split('\n');
  return rows.filter((row) => row !== '').map(json);
}

/** How much of a text is whole lines. */
export function wholeLength(text: string): number {
  return text.lastIndexOf('\n') + 1;
}

function json(row: string, index: number): unknown {
  try {
    return JSON.parse(row);
  } catch (cause) {
    throw new Error(`line ${index + 1} of a journal is not JSON`, { cause });
  }
}
