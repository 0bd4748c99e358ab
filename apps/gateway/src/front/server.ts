/** The front: one HTTP server for every outside request, and the limits of what it puts up with. */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { blaxelRunError } from '@torpor/dialects';
import type { Clock } from '@torpor/kernel';
import { headOf } from '../run-plane/tunnel.ts';
import { answerHalfClosed } from './half-closed.ts';

export interface FrontLimits {
  /** From the first byte of a request to the end of its head. */
  readonly headMs: number;
  /** A kept connection without a request. */
  readonly keepAliveMs: number;
  readonly headBytesMax: number;
}

export const FRONT_LIMITS: FrontLimits = { headMs: 10_000, keepAliveMs: 65_000, headBytesMax: 32 * 1024 };

export function createFront(
  limits: FrontLimits,
  handlers: {
    clock: Clock;
    onRequest: Parameters<typeof createServer>[1] & {};
    onUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
    onUnreadable: (code: string) => void;
  },
): Server {
  const server = createServer({
    headersTimeout: limits.headMs,
    // Bodies have timers of their own: an upload may take as long as it goes on.
    requestTimeout: 0,
    keepAliveTimeout: limits.keepAliveMs,
    maxHeaderSize: limits.headBytesMax,
    connectionsCheckingInterval: 1_000,
    noDelay: true,
    // Fewer, larger steps for downloads: a caller that reads slowly costs this much memory and no more.
    highWaterMark: 256 * 1024,
  });
  answerHalfClosed(server, handlers.clock);
  server.on('request', handlers.onRequest);
  // An expectation that we do not know is passed over (RFC 9110 §10.1.1 lets us); unheard, it would be a bare 417.
  server.on('checkExpectation', handlers.onRequest);
  server.on('upgrade', handlers.onUpgrade);
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    const code = error.code ?? 'unknown';
    handlers.onUnreadable(code);
    if (code === 'ECONNRESET' || !socket.writable) return socket.destroy();
    socket.end(unreadableAnswer(code, limits, handlers.clock.nowMs()));
  });
  return server;
}

function unreadableAnswer(code: string, limits: FrontLimits, nowMs: number): string {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return rawRefusal(
        408,
        'Request Timeout',
        `the timer "request head" ended: the head was not complete after ${limits.headMs} ms`,
        nowMs,
      );
    case 'HPE_HEADER_OVERFLOW':
      return rawRefusal(
        431,
        'Request Header Fields Too Large',
        `the head is larger than ${limits.headBytesMax} bytes`,
        nowMs,
      );
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return rawRefusal(413, 'Payload Too Large', 'the chunk extensions are too large', nowMs);
    default:
      return rawRefusal(400, 'Bad Request', 'this is not HTTP/1.1 as it should be', nowMs);
  }
}

/** An answer for a connection that has no response object. */
export function rawRefusal(status: number, reason: string, message: string, nowMs: number): string {
  const { body } = blaxelRunError('BAD_REQUEST', message, { nowMs, status });
  return rawJson(status, reason, body);
}

export function rawJson(status: number, reason: string, body: unknown): string {
  const text = JSON.stringify(body);
  const headers = [
    'content-type',
    'application/json; charset=utf-8',
    'content-length',
    String(Buffer.byteLength(text)),
    'connection',
    'close',
  ];
  return headOf(status, reason, headers) + text;
}
