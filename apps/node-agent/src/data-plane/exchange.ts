import { Failure, type Chance, type Clock } from '@torpor/kernel';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline, Readable } from 'node:stream';
import type { Instance } from '../standby/instance.ts';
import type { Stay } from '../standby/stay.ts';
import { wakeHeaders } from './headers.ts';
import type { Target } from './target.ts';

/** One data-plane request that has been let in. */
export interface Exchange {
  readonly target: Target;
  readonly instance: Instance;
  readonly stay: Stay;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Aborts when the caller has gone, or the instance. */
  readonly signal: AbortSignal;
  readonly clock: Clock;
  readonly chance: Chance;
  /** Told once, when the head of the answer is sent. */
  answered(status: number): void;
}

/** A body no larger than this waits to be whole: then it leaves in one packet with its head, which spares every hop on its way a wakeup. */
const WHOLE_BYTES_MAX = 64 * 1024;

/** Sends an answer whose body may stream. Resolves when it was sent whole; rejects when it broke off. */
export async function send(
  exchange: Exchange,
  answer: { status: number; headers: Readonly<Record<string, string>>; body: Readable | Buffer | undefined },
): Promise<void> {
  const { request, response, stay } = exchange;
  const { status } = answer;
  const body = request.method !== 'HEAD' && isSmall(answer) ? await wholeOf(answer.body) : answer.body;
  // A request that was sent ahead may be answered before we have heard that the sandbox is awake.
  await stay.awake;
  const length = Buffer.isBuffer(body) ? { 'content-length': body.length } : {};
  response.writeHead(status, { ...answer.headers, ...length, ...wakeHeaders(stay) });
  exchange.answered(status);
  if (body === undefined || Buffer.isBuffer(body)) {
    // Nobody waits for the caller to have read it: the kernel has it, or the caller is gone.
    response.end(body);
    return;
  }
  response.flushHeaders(); // whoever follows a log sees the head before the first line
  await piped(body, response);
}

function isSmall<A extends { readonly headers: Readonly<Record<string, string>>; readonly body: unknown }>(
  answer: A,
): answer is A & { readonly body: Readable } {
  const length = answer.headers['content-length'];
  return answer.body instanceof Readable && length !== undefined && Number(length) <= WHOLE_BYTES_MAX;
}

function wholeOf(body: Readable): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let isWhole = false;
    const cut = () => {
      if (!isWhole) reject(new Failure('bad_gateway', 'the sandbox broke its answer off', { retryable: true }));
    };
    if (body.destroyed) return cut();
    body.on('data', (chunk: Buffer) => chunks.push(chunk));
    body.once('end', () => {
      isWhole = true;
      resolve(chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks));
    });
    body.once('error', reject);
    body.once('close', cut);
  });
}

export function piped(from: Readable, to: ServerResponse): Promise<void> {
  return new Promise((resolve, reject) => {
    pipeline(from, to, (error) => (error ? reject(error) : resolve()));
  });
}
