import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '@torpor/kernel';
import type { OpenSpan } from '@torpor/telemetry';
import { hasRest, readAway } from './rest-of-body.ts';

/** One request from outside, its answer, and what is told of it in the log when it is over. */
export interface Exchange {
  readonly id: string;
  readonly clock: Clock;
  readonly span: OpenSpan;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Aborts when the caller has gone before its answer was complete. */
  readonly signal: AbortSignal;
  /** Goes onto the wide line. Never a secret, never a query. */
  readonly notes: Record<string, unknown>;
}

/** How an exchange ended, in few words for the metrics. */
export type Ending = { readonly status: number; readonly outcome: 'answered' | 'refused' | 'broken' | 'caller gone' };

/** Answers with JSON. An answer that comes before the caller's body has ended closes the connection: nobody wants the rest. */
export function answerJson(
  exchange: Pick<Exchange, 'request' | 'response' | 'clock'>,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string | string[]>> = {},
): void {
  const { request, response } = exchange;
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const bytes = Buffer.from(JSON.stringify(body));
  const type = { 'content-type': 'application/json; charset=utf-8', 'content-length': String(bytes.length) };
  answer(exchange, status, { ...headers, ...type }, request.method === 'HEAD' ? undefined : bytes);
}

export function answerEmpty(exchange: Exchange, status: number, headers: Readonly<Record<string, string>>): void {
  answer(exchange, status, { ...headers, 'content-length': '0' });
}

function answer(
  { request, response, clock }: Pick<Exchange, 'request' | 'response' | 'clock'>,
  status: number,
  headers: Readonly<Record<string, string | string[]>>,
  bytes?: Buffer,
): void {
  if (!hasRest(request)) {
    response.writeHead(status, headers).end(bytes);
    return;
  }
  response.writeHead(status, { ...headers, connection: 'close' });
  if (bytes) response.write(bytes);
  else response.flushHeaders();
  // All is said, so our half closes; unless an answer to an earlier request still goes out by it. Node closes the other half when the answer is ended.
  response.socket?.end();
  void readAway(request, clock).then(() => response.destroyed || response.end());
}
