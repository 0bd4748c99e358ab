/** Bodies that stream in, and tunnels, over HTTP/2 with prior knowledge: many of them on one connection, and each direction of a tunnel ends by itself. */
import { Failure } from '@torpor/kernel';
import {
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
  type OutgoingHttpHeaders,
} from 'node:http2';
import type { Duplex, Readable } from 'node:stream';
import { readAnswer } from './guest-answers.ts';
import { guestFailure, unreachable } from './guest-failures.ts';
import { GuestLane } from './guest-lane.ts';
import type { GuestAnswer, GuestRequest } from './guest.ts';

const TUNNEL_HEAD_MS = 10_000;
const REFUSAL_BYTES_MAX = 64 * 1024;

/** The calls that carry a stream of bytes to the guest. */
export class GuestStreams {
  readonly #lane: GuestLane;

  constructor(host: string, port: number) {
    this.#lane = new GuestLane(host, port);
  }

  async send(request: GuestRequest, body: Readable, token: string): Promise<GuestAnswer> {
    const { signal } = request;
    signal?.throwIfAborted();
    const stream = endingOnlyWhole(this.#lane.open(headersOf(request, token)));
    pump(body, stream);
    const call = `guest ${request.method} ${request.path}`;
    const head = await headOf(stream, { call, headMs: request.headMs ?? 0, ...(signal ? { signal } : {}) });
    return { status: Number(head[':status']), headers: plainHeaders(head), body: stream };
  }

  async tunnel(port: number, token: string, signal?: AbortSignal): Promise<Duplex> {
    signal?.throwIfAborted();
    const stream = endingOnlyWhole(
      this.#lane.open(headersOf({ method: 'POST', path: `/v1/tunnel?port=${port}` }, token)),
    );
    const call = `guest tunnel to port ${port}`;
    const head = await headOf(stream, { call, headMs: TUNNEL_HEAD_MS, ...(signal ? { signal } : {}) });
    const status = Number(head[':status']);
    if (status < 400) return takingBytesOnly(stream);
    stream.end();
    const said = await readAnswer(stream, { call, bytesMax: REFUSAL_BYTES_MAX, ms: TUNNEL_HEAD_MS });
    throw guestFailure(call, status, said);
  }

  close(): void {
    this.#lane.close();
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

/**
 * Node lets a stream end as if it were whole when its connection breaks or the guest resets it. So what ends with a code other than zero fails: a reader
 * that knows of no length must not take half an answer for all of it.
 */
function endingOnlyWhole(stream: ClientHttp2Stream): ClientHttp2Stream {
  const push = stream.push.bind(stream);
  stream.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
    if (chunk !== null || !stream.rstCode) return push(chunk, encoding);
    stream.destroy(new Error(`the guest's stream broke off with code ${stream.rstCode}`));
    return false;
  };
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
      reject(unreachable(call, error));
    }
  });
}

/** Resets the stream. `close` would end our side properly first, and so pass half a body off as a whole one. */
function cut(stream: ClientHttp2Stream, reason: unknown): void {
  stream.destroy(reason instanceof Error ? reason : new Error(String(reason)));
}

function plainHeaders(head: IncomingHttpHeaders): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(head)) {
    if (name.startsWith(':') || value === undefined) continue;
    headers[name] = Array.isArray(value) ? value.join(', ') : String(value);
  }
  return headers;
}
