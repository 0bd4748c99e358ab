/**
 * Files of sandboxes between two points of their lives, compared on the node where both lie: what changed, and what a merge of a fork would do. A *point* is
 * a sandbox as it is now or one of its snapshots. Volumes, and what lies in memory (/tmp, /run, /dev/shm), are not in it.
 */
import { z } from 'zod';
import { defineCall } from './call.ts';
import { Generation, InstanceId } from './ids.ts';
import { SnapshotName } from './sandbox.ts';

/** What bears a name. Two that differ in `modifiedAtMs` alone are the same. */
export const FileEntry = z.object({
  /** `other`: a pipe, a socket or a device. */
  kind: z.enum(['file', 'directory', 'symlink', 'other']),
  /** Permission bits, those for set-id and sticky included. */
  mode: z.number().int(),
  uid: z.number().int(),
  gid: z.number().int(),
  /** Of a file's contents, bytes. */
  size: z.number().default(0),
  modifiedAtMs: z.number(),
  /** Of a symlink. What is no text in it shows as U+FFFD. */
  target: z.string().optional(),
});
export type FileEntry = z.infer<typeof FileEntry>;

const PlaceOfFile = {
  /** Below the root, without a slash before it. What is no text in it shows as U+FFFD. */
  path: z.string(),
  /** Its bytes where it is no text, base64. */
  raw: z.string().optional(),
};

/** `changed` in contents, `retyped` into another kind, `restated`: another mode, owner or extended attributes, and the same contents. */
const What = z.enum(['added', 'removed', 'changed', 'retyped', 'restated']);

/** What is in a directory that one side alone has: it is told of as one. */
const Within = z.object({ entries: z.number().int(), bytes: z.number() });

export const FileChange = z.object({
  ...PlaceOfFile,
  what: What,
  was: FileEntry.optional(),
  is: FileEntry.optional(),
  within: Within.optional(),
});
export type FileChange = z.infer<typeof FileChange>;

/** What a merge does at one path: `here` is what is there, `fork` what will be. */
export const FileStep = z.object({
  ...PlaceOfFile,
  what: What,
  here: FileEntry.optional(),
  fork: FileEntry.optional(),
  within: Within.optional(),
});
export type FileStep = z.infer<typeof FileStep>;

/** A path that both have changed since the base, and not to the same. */
export const FileConflict = z.object({
  ...PlaceOfFile,
  why: z.enum(['both-changed', 'both-added', 'removed-here', 'removed-in-fork', 'file-against-directory']),
  base: FileEntry.optional(),
  fork: FileEntry.optional(),
  here: FileEntry.optional(),
});
export type FileConflict = z.infer<typeof FileConflict>;

/** The lists hold the first by their paths; `counts` and `unlisted` are of all. */
export const FileComparison = z.object({
  changes: z.array(FileChange).default([]),
  steps: z.array(FileStep).default([]),
  conflicts: z.array(FileConflict).default([]),
  counts: z.record(z.string(), z.number()),
  unlisted: z.number().int(),
  tookMs: z.number(),
});
export type FileComparison = z.infer<typeof FileComparison>;

/** `last`: the newest snapshot. A snapshot goes by its id or name. */
export const FilePoint = z.object({
  instanceId: InstanceId,
  generation: Generation,
  at: z.union([z.literal('now'), z.literal('last'), z.object({ snapshot: SnapshotName })]),
});
export type FilePoint = z.infer<typeof FilePoint>;

/** Which point it was: the image that holds it, and when it was so. */
export const ToldPoint = z.object({ image: z.string(), name: z.string().optional(), atMs: z.number() });
export type ToldPoint = z.infer<typeof ToldPoint>;

/** Path of the one part of the tree to look at; `/`: all of it. */
export const TreePath = z
  .string()
  .max(4096)
  .regex(/^\/?([^/\0]+\/?)*$/, 'expected a path such as /srv/app')
  .refine((path) => !path.split('/').some((part) => part === '.' || part === '..'), 'expected a path without . and ..');

/** gateway → node: what changed from one point to another. `too_large` names the limit that ended it. A point as it is now is kept for as long as it takes. */
export const compareFiles = defineCall({
  subject: 'node.{node}.files.compare.v1',
  request: z.object({ from: FilePoint, to: FilePoint, under: TreePath.optional() }),
  reply: z.object({
    from: ToldPoint,
    to: ToldPoint,
    ...FileComparison.pick({ changes: true, counts: true, unlisted: true, tookMs: true }).shape,
  }),
  deadlineMs: 240_000,
});

/**
 * gateway → node: brings into a sandbox, *here*, what a fork of it has changed since its base. What only the fork changed is carried over; where both did, and
 * not to the same, is a conflict, and nothing is carried as long as there is one that `settle` does not settle: by taking the fork's, or leaving what is here.
 * All of it is done or nothing; `before` is a snapshot of what was there.
 */
export const mergeFiles = defineCall({
  subject: 'node.{node}.files.merge.v1',
  request: z.object({
    base: FilePoint,
    fork: FilePoint,
    here: z.object({ instanceId: InstanceId, generation: Generation }),
    under: TreePath.optional(),
    settle: z.enum(['fork', 'here']).optional(),
    /** Tells what would be done. */
    dryRun: z.boolean(),
    by: z.string().optional(),
  }),
  reply: z.object({
    isMerged: z.boolean(),
    /** What was done, or would be. */
    steps: z.array(FileStep),
    /** What nothing was settled of. */
    conflicts: z.array(FileConflict),
    /** Further steps and conflicts that were only counted. Never so of what was merged. */
    unlisted: z.number().int(),
    /** Paths that stay as they are here: by which the platform tells sandboxes apart, or sockets and devices. */
    left: z.array(z.string()),
    before: ToldPoint.optional(),
    tookMs: z.number(),
  }),
  deadlineMs: 600_000,
});
