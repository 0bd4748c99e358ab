/**
 * Volumes: disks with a life of their own. One lies on one node, and is attached to one sandbox at most; whatever changes by whom it may be written to
 * gives it its next generation, which fences the asks that are still on their way. A *snapshot* of a volume is one that is attached nowhere, ever: others
 * are made from it.
 */
import { z } from 'zod';
import { defineCall } from './call.ts';
import { Generation, InstanceId, NodeId, SandboxName, VolumeId, VolumeName, WorkspaceName } from './ids.ts';

export const VolumeSize = z
  .number()
  .int()
  .min(16, 'expected at least 16 MiB')
  .max(1_048_576 * 16);

const KEPT_PLACES = ['/proc', '/sys', '/dev', '/torpor', '/run/torpor'];

/** Where a volume is seen inside: an absolute path, in its shortest form, that is not the platform's own. */
export const MountPath = z
  .string()
  .max(1024)
  .regex(/^(\/[^/\0]+)+$/, 'expected an absolute path, such as /data')
  .refine((path) => !path.split('/').some((part) => part === '.' || part === '..'), 'expected a path without . and ..')
  .refine(
    (path) => !KEPT_PLACES.some((kept) => path === kept || path.startsWith(`${kept}/`)),
    `expected a path outside ${KEPT_PLACES.join(', ')}`,
  );

/** A volume that a sandbox is to have, as a caller says it. */
export const VolumeMount = z.object({ name: VolumeName, path: MountPath });
export type VolumeMount = z.infer<typeof VolumeMount>;

/** Volumes per sandbox. */
export const VOLUMES_MAX = 16;

/** Of one create: no two of them the same, nor in the same place. */
export const VolumeMounts = z
  .array(VolumeMount)
  .max(VOLUMES_MAX)
  .refine((all) => new Set(all.map(({ name }) => name)).size === all.length, 'expected each volume once')
  .refine((all) => new Set(all.map(({ path }) => path)).size === all.length, 'expected each path once');

/** What whoever carries a sandbox must know of a volume that it has. */
export const AttachedVolume = z.object({
  volume: VolumeId,
  /** As of when it was attached. */
  generation: Generation,
  path: MountPath,
});
export type AttachedVolume = z.infer<typeof AttachedVolume>;

/** `attaching`, `detaching`: its node is to do it, and is told until it has. */
export const Attachment = z.object({
  instanceId: InstanceId,
  sandbox: SandboxName,
  path: MountPath,
  state: z.enum(['attaching', 'attached', 'detaching']),
});
export type Attachment = z.infer<typeof Attachment>;

/** What a volume was made from. */
export const VolumeOrigin = z.object({ volume: VolumeId, name: VolumeName });
export type VolumeOrigin = z.infer<typeof VolumeOrigin>;

/** A volume as the control plane knows it: one row. */
export const Volume = z.object({
  id: VolumeId,
  workspace: WorkspaceName,
  name: VolumeName,
  kind: z.enum(['volume', 'snapshot']),
  sizeMib: VolumeSize,
  nodeId: NodeId,
  generation: Generation,
  phase: z.enum(['creating', 'ready', 'deleting']),
  attachment: Attachment.optional(),
  origin: VolumeOrigin.optional(),
  /** Made for a fork, of its parent's: it goes with that sandbox unless it is detached from it first. */
  isForks: z.boolean().optional(),
  createdAtMs: z.number(),
  updatedAtMs: z.number(),
  createdBy: z.string(),
});
export type Volume = z.infer<typeof Volume>;

const ByName = { workspace: WorkspaceName, name: VolumeName };

/** gateway → scheduler: a new one, or a copy of what another holds now. `no_space` when no node, or not the other's, can hold it. */
export const createVolume = defineCall({
  subject: 'scheduler.volume.create.v1',
  request: z.object({
    ...ByName,
    kind: z.enum(['volume', 'snapshot']),
    /** Absent: as large as the one that it is made from. */
    sizeMib: VolumeSize.optional(),
    from: VolumeName.optional(),
    createdBy: z.string(),
  }),
  reply: z.object({ volume: Volume }),
  deadlineMs: 30_000,
});

/** gateway → scheduler. Attached or not; a smaller size only if what it holds fits. */
export const resizeVolume = defineCall({
  subject: 'scheduler.volume.resize.v1',
  request: z.object({ ...ByName, sizeMib: VolumeSize }),
  reply: z.object({ volume: Volume }),
  deadlineMs: 30_000,
});

/** gateway → scheduler. `conflict` while it is attached. What was made from it stays. */
export const deleteVolume = defineCall({
  subject: 'scheduler.volume.delete.v1',
  request: z.object(ByName),
  reply: z.object({ volume: Volume }),
  deadlineMs: 30_000,
});

/** gateway → scheduler: to a living sandbox, which wakes for it. Answers when it can be used inside. */
export const attachVolume = defineCall({
  subject: 'scheduler.volume.attach.v1',
  request: z.object({ ...ByName, sandbox: SandboxName, path: MountPath }),
  reply: z.object({ volume: Volume }),
  deadlineMs: 60_000,
});

/** gateway → scheduler: from whatever sandbox has it, which wakes for it. `conflict` while a program inside uses it. */
export const detachVolume = defineCall({
  subject: 'scheduler.volume.detach.v1',
  request: z.object(ByName),
  reply: z.object({ volume: Volume }),
  deadlineMs: 60_000,
});

/** scheduler → node: there is to be such a volume, of that size; twice is once. A smaller size than what it holds is a `conflict`. */
export const holdVolume = defineCall({
  subject: 'node.{node}.volume.hold.v1',
  request: z.object({
    volume: VolumeId,
    generation: Generation,
    sizeMib: VolumeSize,
    /** What a new one is a copy of. */
    from: VolumeId.optional(),
  }),
  reply: z.object({}),
  deadlineMs: 25_000,
});

/** scheduler → node: there is to be none such; twice is once. */
export const dropVolume = defineCall({
  subject: 'node.{node}.volume.drop.v1',
  request: z.object({ volume: VolumeId, generation: Generation }),
  reply: z.object({}),
  deadlineMs: 25_000,
});

const Held = { instanceId: InstanceId, instanceGeneration: Generation, volume: AttachedVolume };

/** scheduler → node: the instance is to have it; twice is once. Answers when it can be used inside. */
export const giveVolume = defineCall({
  subject: 'node.{node}.volume.give.v1',
  request: z.object(Held),
  reply: z.object({}),
  deadlineMs: 45_000,
});

/** scheduler → node: no instance is to have it any more; twice is once. `conflict` while a program inside uses it. */
export const takeVolume = defineCall({
  subject: 'node.{node}.volume.take.v1',
  request: z.object({ volume: VolumeId, generation: Generation }),
  reply: z.object({}),
  deadlineMs: 45_000,
});

/** gateway or scheduler → node: what those of these hold that are there. */
export const describeVolumes = defineCall({
  subject: 'node.{node}.volume.describe.v1',
  request: z.object({ volumes: z.array(VolumeId).max(1000) }),
  reply: z.object({ volumes: z.array(z.object({ volume: VolumeId, usedMib: z.number(), limitMib: z.number() })) }),
  deadlineMs: 5_000,
});
