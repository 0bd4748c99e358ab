/** When an instance may fall asleep (DESIGN §4.1): a pure verdict over what is known of its use. Times are ms of one clock. */
import type { IdlePolicy } from '@torpor/contracts';

export interface UseFacts {
  readonly policy: IdlePolicy;
  readonly nowMs: number;
  /** When it was last used: the end of the last request, the end of the last keep-alive process, its creation, its last wake. */
  readonly lastUseMs: number;
  /** Requests whose answer has not ended. */
  readonly openRequests: number;
  /** Log follows, watches and terminals that somebody reads. */
  readonly openStreams: number;
  /** Keep-alive processes, as last counted; `undefined`: not asked yet. */
  readonly keepAlive: number | undefined;
  /** When a preview's socket last moved enough bytes to count (`previewCounts`). The socket alone holds nothing awake. */
  readonly lastPreviewMs: number | undefined;
}

export type IdleVerdict =
  | { readonly kind: 'sleep' }
  /** Nothing holds it; its time has not come. */
  | { readonly kind: 'wait'; readonly untilMs: number; readonly because: 'request' | 'preview' }
  | { readonly kind: 'held'; readonly because: 'request' | 'stream' | 'keep-alive process' | 'policy never' };

export function idleVerdict(facts: UseFacts): IdleVerdict {
  if (facts.policy.kind === 'never') return { kind: 'held', because: 'policy never' };
  if (facts.openStreams > 0) return { kind: 'held', because: 'stream' };
  if (facts.openRequests > 0) return { kind: 'held', because: 'request' };
  const preview = facts.lastPreviewMs ?? -Infinity;
  const untilMs = Math.max(facts.lastUseMs, preview) + facts.policy.idleMs;
  if (untilMs > facts.nowMs)
    return { kind: 'wait', untilMs, because: preview > facts.lastUseMs ? 'preview' : 'request' };
  if (facts.keepAlive !== undefined && facts.keepAlive > 0) return { kind: 'held', because: 'keep-alive process' };
  return { kind: 'sleep' };
}

/** Bytes on a preview's socket since it last counted as use. */
export interface PreviewBytes {
  readonly fromClient: number;
  readonly fromInstance: number;
}

const CLIENT_BYTES_OF_USE = 64;
const INSTANCE_BYTES_OF_USE = 1024;

/**
 * Whether those bytes are use. A forgotten browser tab answers a server's pings with a few bytes each; that is no use.
 * (Bytes that reach a sleeping instance wake it however few they are.)
 */
export function previewCounts(bytes: PreviewBytes): boolean {
  return bytes.fromClient >= CLIENT_BYTES_OF_USE || bytes.fromInstance >= INSTANCE_BYTES_OF_USE;
}
