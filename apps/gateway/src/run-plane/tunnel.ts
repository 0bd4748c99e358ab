/** An upgraded connection (a WebSocket, mostly) handed through to the node: after the handshake, bytes both ways until either end closes. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { Failure, withDeadline, type Clock } from '@torpor/kernel';
import { isMisdirected } from './misdirected.ts';

export type Handshake =
  | { readonly kind: 'opened'; readonly node: Duplex; readonly head: Buffer; readonly answer: IncomingMessage }
  /** The node answered as to a plain request. */
  | { readonly kind: 'answered'; readonly answer: IncomingMessage }
  | { readonly kind: 'misdirected' };

export interface TunnelErrand {
  readonly origin: string;
  readonly path: string;
  readonly headers: readonly string[];
  readonly upgrade: string;
}

/** Rejects with `unavailable` when the node cannot be reached, `deadline_exceeded` when it does not answer. */
export function shakeHands(
  errand: TunnelErrand,
  timer: { clock: Clock; ms: number; outer: AbortSignal },
): Promise<Handshake> {
  const { hostname, port } = new URL(errand.origin);
  return withDeadline(
    { name: 'upgrade handshake', ms: timer.ms, clock: timer.clock, outer: timer.outer },
    (signal) =>
      new Promise((resolve, reject) => {
        const request = httpRequest({
          host: hostname,
          port,
          path: errand.path,
          method: 'GET',
          headers: [...errand.headers, 'connection', 'Upgrade', 'upgrade', errand.upgrade],
          agent: false,
          signal,
        });
        request.once('upgrade', (answer, node, head) => resolve({ kind: 'opened', node, head, answer }));
        request.once('response', (answer) => {
          // An answer that only the close frames is complete to Node, however the connection was closed.
          request.once('error', (cause) => answer.destroy(cause));
          if (!isMisdirected(answer.statusCode, answer.headers)) return resolve({ kind: 'answered', answer });
          answer.resume();
          resolve({ kind: 'misdirected' });
        });
        request.on('error', (cause) =>
          reject(
            new Failure('unavailable', 'the node could not be reached; ask again in a moment', {
              retryable: true,
              retryAfterS: 1,
              cause,
            }),
          ),
        );
        request.end();
      }),
  );
}

/** Writes a head as it would stand on the wire. */
export function headOf(status: number, reason: string, rawHeaders: readonly string[]): string {
  const lines = [`HTTP/1.1 ${status} ${reason}`];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) lines.push(`${rawHeaders[i]}: ${rawHeaders[i + 1]}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}

/** When our half has closed, the caller's does within `linger`, whether the caller closes it or not. Whatever still comes by it is read away. */
export function closeBehind(socket: Duplex, linger: { clock: Clock; ms: number }): void {
  const closed = new AbortController();
  socket.once('close', () => closed.abort()).resume();
  socket.once('finish', () =>
    linger.clock.after(linger.ms, closed.signal).then(
      () => socket.destroy(),
      () => undefined, // it has closed by itself
    ),
  );
}

/**
 * Joins both ends; resolves with the bytes that went each way when both have closed. An end that says no more leaves the other `lingerMs` to say
 * its last word: half a connection is worth little, and nobody should keep a sandbox awake by it.
 */
export function join(
  caller: Duplex,
  node: Duplex,
  linger: { clock: Clock; ms: number },
): Promise<{ bytesIn: number; bytesOut: number }> {
  let bytesIn = 0;
  let bytesOut = 0;
  const bell = new AbortController();
  caller.on('data', (chunk: Buffer) => (bytesIn += chunk.length));
  node.on('data', (chunk: Buffer) => (bytesOut += chunk.length));
  caller.pipe(node);
  node.pipe(caller);
  const halfClosed = () =>
    linger.clock.after(linger.ms, bell.signal).then(
      () => [caller, node].map((end) => end.destroy()),
      () => [], // both have closed by themselves
    );
  caller.once('end', halfClosed);
  node.once('end', halfClosed);
  return new Promise((resolve) => {
    let open = 2;
    const closed = (other: Duplex) => () => {
      other.destroy();
      if (--open > 0) return;
      bell.abort();
      resolve({ bytesIn, bytesOut });
    };
    // An end that errs is closed next; its close tells all there is to do.
    caller.on('error', () => undefined).once('close', closed(node));
    node.on('error', () => undefined).once('close', closed(caller));
  });
}
