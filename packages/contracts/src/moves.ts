/**
 * Moving a sandbox from one node to another. The words: an image travels as a *parcel*, files that say nothing to who has not its key; the *waybill* is what
 * goes with the parcels of one sandbox, sealed for the node that it is for. The node that it leaves keeps everything, and wakes nothing of it, until
 * PostgreSQL says that it lives elsewhere, under the next generation; the node that it comes to has all of it by then, read back and compared.
 */
import { z } from 'zod';
import { defineCall } from './call.ts';
import { Generation, InstanceId, NodeId, SandboxName, WorkspaceName } from './ids.ts';
import { Route, Sandbox } from './sandbox.ts';

/** What an image needs where it is to wake. Equal names, equal makes, on whatever node. */
export const Make = z.object({
  /** The build of what isolates it. */
  isolation: z.string(),
  /** The layers of each, by its name and its aliases. */
  templates: z.record(z.string(), z.string()),
  cpuFeatures: z.array(z.string()),
});
export type Make = z.infer<typeof Make>;

/** scheduler → node: what it could wake, and the key that waybills for it and from it are sealed by (X25519, SPKI, base64). */
export const nodeFacts = defineCall({
  subject: 'node.{node}.facts.v1',
  request: z.object({}),
  reply: z.object({ make: Make, key: z.string() }),
  deadlineMs: 5_000,
});

const MOVE_MS = 900_000;

/**
 * scheduler → the node that has it: put it to sleep, store it, and keep it so, its parcels ready. Requests are held from here on. Asked again, it answers the
 * same. When it fails, it is as it was.
 */
export const leaveInstance = defineCall({
  subject: 'node.{node}.instance.leave.v1',
  request: z.object({
    instanceId: InstanceId,
    generation: Generation,
    to: NodeId,
    key: z.string(),
    /** It lives on here: only a copy is to be carried away. It stays by itself when nobody fetches anything for two minutes. */
    copy: z.boolean().optional(),
  }),
  reply: z.object({ bytes: z.number() }),
  deadlineMs: MOVE_MS,
});

/** scheduler → the node that it was to leave: it stays. Twice is once. */
export const stayInstance = defineCall({
  subject: 'node.{node}.instance.stay.v1',
  request: z.object({ instanceId: InstanceId, generation: Generation }),
  reply: z.object({}),
  deadlineMs: 30_000,
});

/**
 * scheduler → the node that it goes to: fetch it. Answers when all of it is there, read back and compared, under the next generation; nothing wakes it before
 * a request carries that one. Asked again, it says so.
 */
export const fetchInstance = defineCall({
  subject: 'node.{node}.instance.fetch.v1',
  request: z.object({
    instanceId: InstanceId,
    generation: Generation,
    from: z.object({ nodeId: NodeId, url: z.string(), generation: Generation, key: z.string() }),
  }),
  reply: z.object({ bytes: z.number(), tookMs: z.number() }),
  deadlineMs: MOVE_MS,
});

/** gateway → scheduler. Answers when PostgreSQL says that it lives there. A refusal names what is missing, and changes nothing. */
export const moveSandbox = defineCall({
  subject: 'scheduler.sandbox.move.v1',
  request: z.object({
    workspace: WorkspaceName,
    name: SandboxName,
    /** Absent: the scheduler chooses. */
    to: NodeId.optional(),
  }),
  reply: z.object({ sandbox: Sandbox, route: Route, from: NodeId, bytes: z.number(), tookMs: z.number() }),
  deadlineMs: 2 * MOVE_MS,
});

/** gateway → scheduler: nothing new is placed there, and what is there moves away, as long as it says `drain`. */
export const drainNode = defineCall({
  subject: 'scheduler.node.drain.v1',
  request: z.object({ nodeId: NodeId, drain: z.boolean() }),
  reply: z.object({}),
  deadlineMs: 10_000,
});

/** gateway → scheduler: how far the drain of a node is. */
export const drainProgress = defineCall({
  subject: 'scheduler.node.progress.v1',
  request: z.object({ nodeId: NodeId }),
  reply: z.object({
    /** Living ones, and failed ones whose files it keeps. */
    left: z.number().int(),
    moving: z.number().int(),
    /** Why some have not moved, by sandbox; they are tried again. */
    troubles: z.array(z.object({ workspace: WorkspaceName, name: SandboxName, reason: z.string() })),
    /** What does not travel: volumes, and snapshots whose sandboxes are no more. */
    stays: z.object({ volumes: z.number().int(), snapshots: z.number().int() }),
  }),
  deadlineMs: 10_000,
});
