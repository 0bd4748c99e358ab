import type { IncomingMessage, ServerResponse } from 'node:http';
import type { OpenSpan } from '@torpor/telemetry';

/** One request from outside, its answer, and what is told of it in the log when it is over. */
export interface Exchange {
  readonly id: string;
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

/** Answers with JSON. An answer that comes before the caller's body has ended closes the connection: nobody will read the rest. */
export function answerJson(
  exchange: Pick<Exchange, 'request' | 'response'>,
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
  response.writeHead(status, {
    ...headers,
    'content-type': 'application/json; charset=utf-8',
    'content-length': bytes.length,
    ...(request.complete ? {} : { connection: 'close' }),
  });
  response.end(request.method === 'HEAD' ? undefined : bytes);
}

export function answerEmpty(exchange: Exchange, status: number, headers: Readonly<Record<string, string>>): void {
  const close = exchange.request.complete ? {} : { connection: 'close' };
  exchange.response.writeHead(status, { ...headers, 'content-length': '0', ...close }).end();
}
