/**
 * A caller's body on its way to the node. A small one that has arrived whole with its head is taken as it is, so that it can be sent again; any
 * other is streamed as it comes, and is broken off when the caller stalls.
 */
import type { IncomingMessage } from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Failure, type Clock } from '@torpor/kernel';

export type OutgoingBody =
  | { readonly kind: 'none' }
  | { readonly kind: 'whole'; readonly bytes: Buffer }
  | {
      readonly kind: 'stream';
      /** As the caller announced it and our server holds it to. */
      readonly length: number | undefined;
      readonly chunks: () => AsyncIterable<Buffer>;
      readonly isTouched: () => boolean;
    };

const WHOLE_MAX_BYTES = 48 * 1024;

export async function takeBody(
  request: IncomingMessage,
  limits: { clock: Clock; idleMs: number },
): Promise<OutgoingBody> {
  const { 'content-length': length, 'transfer-encoding': coding } = request.headers;
  if (coding === undefined && (length === undefined || length === '0')) return { kind: 'none' };
  if (coding === undefined && Number(length) <= WHOLE_MAX_BYTES) {
    // What came in one packet with the head has been parsed one turn later.
    if (!request.complete) await nextTurn();
    if (request.complete) {
      const bytes: unknown = request.read();
      if (Buffer.isBuffer(bytes) && bytes.length === Number(length)) return { kind: 'whole', bytes };
    }
  }
  return streamed(request, coding === undefined ? Number(length) : undefined, limits);
}

function streamed(
  request: IncomingMessage,
  length: number | undefined,
  { clock, idleMs }: { clock: Clock; idleMs: number },
): OutgoingBody {
  let touched = false;
  async function* chunks(): AsyncIterable<Buffer> {
    const bell = new AbortController();
    let waitsSinceMs: number | undefined;
    const stalled = (async (): Promise<never> => {
      for (;;) {
        const quietMs = waitsSinceMs === undefined ? 0 : clock.monotonicMs() - waitsSinceMs;
        if (quietMs >= idleMs) break;
        await clock.after(idleMs - quietMs, bell.signal);
      }
      throw stall(idleMs);
    })();
    // The loop below hears of a stall by its race; when it is over, nobody listens to the bell's ring.
    stalled.catch(() => undefined);
    const source: AsyncIterator<Buffer> = request.iterator({ destroyOnReturn: false });
    try {
      for (;;) {
        waitsSinceMs = clock.monotonicMs();
        const next = await Promise.race([source.next(), stalled]);
        waitsSinceMs = undefined;
        if (next.done) return;
        touched = true;
        yield next.value;
      }
    } finally {
      bell.abort(new Error('the body has ended'));
    }
  }
  return { kind: 'stream', length, chunks, isTouched: () => touched };
}

function stall(idleMs: number): Failure {
  return new Failure(
    'request_timeout',
    `the timer "request body" ended: no byte of the body came for ${idleMs} ms; send it without pauses`,
    { retryable: true, details: { timer: 'request body', ms: idleMs } },
  );
}
