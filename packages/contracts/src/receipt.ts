import { z } from 'zod';
import { Generation, InstanceId, NodeId, SandboxName, WorkspaceName } from './ids.ts';

/** Where a wake comes from: RAM, swap, an image on disk, or the files alone because the memory was lost. */
export const WakeTier = z.enum(['paused', 'lean', 'stored', 'files']);
export type WakeTier = z.infer<typeof WakeTier>;

/** One thing that was looked at after a wake, before anybody was let in. `found` is for people. */
export const Check = z.object({
  what: z.enum(['processes', 'listeners', 'generation', 'clock']),
  outcome: z.enum(['passed', 'failed', 'not checked']),
  found: z.string(),
});
export type Check = z.infer<typeof Check>;

/** What one wake from disk came to. Times are ms, `wokeAtMs` since the epoch. */
export const Receipt = z.object({
  version: z.literal(1),
  nodeId: NodeId,
  workspace: WorkspaceName,
  name: SandboxName,
  instanceId: InstanceId,
  generation: Generation,
  wokeAtMs: z.number(),
  tier: WakeTier,
  /** Absent: none was measured yet. */
  predictedMs: z.number().optional(),
  /** From what needed it awake to the end of the checks. */
  tookMs: z.number(),
  /** What it came from, and when that was made. Absent: its files alone. */
  image: z.string().optional(),
  imageAtMs: z.number().optional(),
  /** `whole`: all is as it was. `unchecked`: what could be checked is. `flawed`: something is not, and there was nothing to fall back to that is better. */
  verdict: z.enum(['whole', 'unchecked', 'flawed', 'fell back']),
  /** What did not come back, in words. */
  lost: z.string().optional(),
  /** Newer images that would not do, and why. */
  refused: z.array(z.object({ image: z.string(), reason: z.string() })),
  checks: z.array(Check),
});
export type Receipt = z.infer<typeof Receipt>;

/** A receipt as its node signed it: Ed25519 over the bytes of `signed`, which is the receipt as JSON. Key (the raw 32 bytes) and signature are base64. */
export const SignedReceipt = z.object({ signed: z.string(), signature: z.string(), key: z.string() });
export type SignedReceipt = z.infer<typeof SignedReceipt>;
