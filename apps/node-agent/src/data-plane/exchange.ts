import type { Chance, Clock } from '@torpor/kernel';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline, type Readable } from 'node:stream';
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

/** Sends an answer whose body may stream. Resolves when it was sent whole; rejects when it broke off. */
export async function send(
  exchange: Exchange,
  answer: { status: number; headers: Readonly<Record<string, string>>; body: Readable | Buffer | undefined },
): Promise<void> {
  const { response } = exchange;
  const { body } = answer;
  const length = Buffer.isBuffer(body) ? { 'content-length': body.length } : {};
  response.writeHead(answer.status, { ...answer.headers, ...length, ...wakeHeaders(exchange.stay) });
  exchange.answered(answer.status);
  if (body === undefined || Buffer.isBuffer(body)) {
    await ended(response, body);
    return;
  }
  response.flushHeaders(); // whoever follows a log sees the head before the first line
  await piped(body, response);
}

export function piped(from: Readable, to: ServerResponse): Promise<void> {
  return new Promise((resolve, reject) => {
    pipeline(from, to, (error) => (error ? reject(error) : resolve()));
  });
}

/** Does not wait for the caller to have read it: the kernel has it, or the caller is gone. */
async function ended(response: ServerResponse, body: Buffer | undefined): Promise<void> {
  response.end(body);
}
