/**
 * The guest over HTTP/2 with prior knowledge. Small calls and bulk (big bodies, tunnels) travel on different connections, so that no upload delays a
 * command. This is the hot path of a wake: a call costs one stream and at most one timer.
 */
import { Failure } from '@torpor/kernel';
import {
  constants,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { Readable, type Duplex } from 'node:stream';
import { guestOver, type GuestTransport } from './guest-calls.ts';
import { readAnswer } from './guest-answers.ts';
import { guestFailure } from './guest-failures.ts';
import { GuestLane } from './guest-lane.ts';
import type { Guest, GuestAnswer, GuestRequest } from './guest.ts';

const TUNNEL_HEAD_MS = 10_000;
const REFUSAL_BYTES_MAX = 64 * 1024;

export function http2Guest(address: { host: string; port: number }, token: string): Guest {
  return guestOver(http2Transport(address), token);
}

function http2Transport({ host, port }: { host: string; port: number }): GuestTransport {
  const control = new GuestLane(host, port);
  const bulk = new GuestLane(host, port);
  return { send, tunnel, close };

  async function send(request: GuestRequest, token: string): Promise<GuestAnswer> {
    try {
      return await sendOnce(request, token);
    } catch (error) {
      // The guest says that it has not looked at it, as when it closed an idle connection just then.
      if (!(error instanceof RefusedStream) || request.body instanceof Readable) throw error;
      return await sendOnce(request, token);
    }
  }

  async function sendOnce(request: GuestRequest, token: string): Promise<GuestAnswer> {
    const { body, signal } = request;
    signal?.throwIfAborted();
    const stream = (request.bulk ? bulk : control).open(headersOf(request, token), body === undefined);
    if (body instanceof Readable) pump(body, stream);
    else if (body !== undefined) stream.end(body);
    const call = `guest ${request.method} ${request.path}`;
    const head = await headOf(stream, { call, headMs: request.headMs ?? 0, ...(signal ? { signal } : {}) });
    return { status: Number(head[':status']), headers: plainHeaders(head), body: stream };
  }

  async function tunnel(tunnelPort: number, token: string, signal?: AbortSignal): Promise<Duplex> {
    signal?.throwIfAborted();
    const request = { method: 'POST', path: `/v1/tunnel?port=${tunnelPort}` };
    const stream = bulk.open(headersOf(request, token), false);
    const call = `guest tunnel to port ${tunnelPort}`;
    const head = await headOf(stream, { call, headMs: TUNNEL_HEAD_MS, ...(signal ? { signal } : {}) });
    const status = Number(head[':status']);
    if (status < 400) return takingBytesOnly(stream);
    stream.end();
    const said = await readAnswer(stream, { call, bytesMax: REFUSAL_BYTES_MAX, ms: TUNNEL_HEAD_MS });
    throw guestFailure(call, status, said);
  }

  function close(): void {
    control.close();
    bulk.close();
  }
}

function headersOf(request: GuestRequest, token: string): OutgoingHttpHeaders {
  return { ...request.headers, ':method': request.method, ':path': request.path, authorization: `Bearer ${token}` };
}

/**
 * Node up to 24.21 sends freed memory where text and bytes are queued together on an HTTP/2 stream (`http.request` over a tunnel does that: the head is
 * text, the body bytes). So no text gets to the stream.
 */
function takingBytesOnly(stream: Duplex): Duplex {
  const write = stream.write.bind(stream);
  function writeBytes(chunk: unknown, encoding?: BufferEncoding | WriteDone, done?: WriteDone): boolean {
    const whenDone = typeof encoding === 'function' ? encoding : done;
    const named = typeof encoding === 'string' ? encoding : 'utf8';
    return write(typeof chunk === 'string' ? Buffer.from(chunk, named) : chunk, whenDone);
  }
  stream.write = writeBytes;
  return stream;
}

type WriteDone = (error: Error | null | undefined) => void;

/** Copies a body that the caller owns: when the guest wants no more of it, the rest stays with the caller. */
function pump(body: Readable, stream: ClientHttp2Stream): void {
  body.once('error', (error) => stream.destroy(error));
  body.once('close', () => {
    if (!body.readableEnded) stream.destroy(new Error('the body broke off'));
  });
  body.pipe(stream);
}

type ResponseHead = IncomingHttpHeaders & IncomingHttpStatusHeader;

/** Waits for the head of the answer. The signal also ends a stream whose head has come. */
function headOf(
  stream: ClientHttp2Stream,
  wait: { call: string; headMs: number; signal?: AbortSignal },
): Promise<ResponseHead> {
  const { call, headMs, signal } = wait;
  return new Promise((resolve, reject) => {
    const timer = headMs > 0 ? setTimeout(late, headMs) : undefined;
    let waiting = true;
    stream.on('error', broken); // stays: a body that nobody reads must not end the room when its connection breaks
    stream.once('close', () => {
      signal?.removeEventListener('abort', abort);
      if (waiting) broken(new Error(`the stream ended with code ${stream.rstCode} before an answer`));
    });
    stream.once('response', (head) => {
      settle();
      resolve(head);
    });
    signal?.addEventListener('abort', abort, { once: true });

    function settle() {
      waiting = false;
      clearTimeout(timer);
    }
    function late() {
      const message = `the timer "${call}" ended after ${headMs} ms`;
      end(new Failure('deadline_exceeded', message, { retryable: true, details: { timer: call, ms: headMs } }));
    }
    function abort() {
      end(signal?.reason);
    }
    function end(reason: unknown) {
      settle();
      reject(reason);
      cut(stream, reason);
    }
    function broken(error: Error) {
      if (!waiting) return;
      settle();
      const refused = stream.rstCode === constants.NGHTTP2_REFUSED_STREAM;
      reject(refused ? new RefusedStream(call, error) : unreachable(call, error));
    }
  });
}

/** Resets the stream. `close` would end our side properly first, and so pass half a body off as a whole one. */
function cut(stream: ClientHttp2Stream, reason: unknown): void {
  stream.destroy(reason instanceof Error ? reason : new Error(String(reason)));
}

function unreachable(call: string, cause: Error): Failure {
  return new Failure('unavailable', `"${call}" found no guest: ${cause.message}`, { retryable: true, cause });
}

class RefusedStream extends Failure {
  constructor(call: string, cause: Error) {
    super('unavailable', `the guest refused the stream of "${call}"`, { retryable: true, cause });
  }
}

function plainHeaders(head: IncomingHttpHeaders): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(head)) {
    if (name.startsWith(':') || value === undefined) continue;
    headers[name] = Array.isArray(value) ? value.join(', ') : String(value);
  }
  return headers;
}
