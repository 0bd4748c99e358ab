/**
 * What is left of a caller's body when its answer is ready. A connection that is closed over bytes which nobody has read is reset by the kernel, and the
 * reset may overtake the answer: the caller would see a broken connection, and not why it was refused. So the rest is read away before the close, as
 * long as that is bearable (RFC 9112 §9.6; nginx calls it a lingering close, and its times are ours).
 */
import type { IncomingMessage } from 'node:http';
import type { Clock } from '@torpor/kernel';

export interface RestLimits {
  readonly ms: number;
  /** Without a byte. */
  readonly silentMs: number;
  readonly bytesMax: number;
}

const LIMITS: RestLimits = { ms: 30_000, silentMs: 5_000, bytesMax: 256 * 1024 * 1024 };

/** Whether a close now would cut off a body. While the head of a request is being handled, even one without a body is not complete. */
export function hasRest({ complete, headers }: IncomingMessage): boolean {
  return !complete && (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0);
}

/** Resolves when the body is over, the caller has gone, or a limit is met. Whoever else was reading may get no more of it. */
export async function readAway(request: IncomingMessage, clock: Clock, limits = LIMITS): Promise<void> {
  const enough = new AbortController();
  const giveUpAtMs = clock.monotonicMs() + limits.ms;
  let heardAtMs = clock.monotonicMs();
  let bytes = 0;
  const take = () => {
    for (let piece = read(request); piece !== null; piece = read(request)) bytes += piece.length;
    heardAtMs = clock.monotonicMs();
    if (bytes > limits.bytesMax) enough.abort();
  };
  // By `readable`, beside which no other reader gets in our way.
  request.on('readable', take).once('close', () => enough.abort());
  take();
  while (!request.destroyed && !request.readableEnded && !enough.signal.aborted) {
    const waitMs = Math.min(giveUpAtMs, heardAtMs + limits.silentMs) - clock.monotonicMs();
    if (waitMs <= 0) break;
    await clock.after(waitMs, enough.signal).catch(() => undefined); // it is enough
  }
  request.off('readable', take);
}

function read(request: IncomingMessage): Buffer | null {
  return request.read() as Buffer | null; // nobody sets an encoding
}
