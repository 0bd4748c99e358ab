import { CODE_HEADER, statusOf } from '@torpor/contracts';
import { blaxelRunErrorOf } from '@torpor/dialects';
import { explain, Failure } from '@torpor/kernel';
import { STATUS_CODES, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Part } from './target.ts';

/** Whatever went wrong as a failure that may be shown. What is no Failure is our bug, and its text stays in the log. */
export function failureOf(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (isConnectionTrouble(error)) {
    return new Failure('bad_gateway', `the sandbox broke off: ${explain(error)}`, { retryable: true, cause: error });
  }
  return new Failure('internal', 'the node-agent failed while serving this request', { cause: error });
}

/**
 * A refusal made here, not inside the sandbox. At a port there is no API whose shape it could take: it has the one in which the gateway refuses. Else
 * `error` is what every dialect shows a person, the rest is for the gateway.
 */
export function bodyOf(failure: Failure, part: Part['kind'] | undefined, nowMs: number): string {
  if (part === 'port') return JSON.stringify(blaxelRunErrorOf(failure, nowMs).body);
  const { code, message, retryable, details } = failure;
  return JSON.stringify({ error: message, code, message, retryable, ...details });
}

/** Answers with the failure, or breaks the answer off when it has begun. */
export function refuse(
  response: ServerResponse,
  failure: Failure,
  { part, nowMs }: { part: Part['kind'] | undefined; nowMs: number },
): void {
  if (response.headersSent) {
    response.destroy(failure);
    return;
  }
  const body = bodyOf(failure, part, nowMs);
  response.writeHead(statusOf(failure.code), {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    [CODE_HEADER]: failure.code,
    ...(failure.retryAfterS === undefined ? {} : { 'retry-after': String(failure.retryAfterS) }),
  });
  response.end(body);
}

/** The same for a socket on which another protocol was asked for, which only ports speak. */
export function refuseUpgrade(socket: Duplex, failure: Failure, nowMs: number): void {
  const body = bodyOf(failure, 'port', nowMs);
  const status = statusOf(failure.code);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Error'}`,
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(body)}`,
    `${CODE_HEADER}: ${failure.code}`,
    'connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}

function isConnectionTrouble(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    /^E[A-Z]+$|^ERR_(HTTP2|STREAM)/.test(error.code)
  );
}
