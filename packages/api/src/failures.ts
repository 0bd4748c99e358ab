/** How a `Failure` travels to a tRPC client: the nearest tRPC code outside, the failure itself under `data.failure`. */
import { describeIssues } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { TRPCError } from '@trpc/server';
import { ZodError } from 'zod';

export interface FailureView {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
  readonly retryAfterS?: number;
}

const CODES: Readonly<Record<string, TRPCError['code']>> = {
  bad_request: 'BAD_REQUEST',
  unauthenticated: 'UNAUTHORIZED',
  forbidden: 'FORBIDDEN',
  not_found: 'NOT_FOUND',
  method_not_allowed: 'METHOD_NOT_SUPPORTED',
  request_timeout: 'TIMEOUT',
  conflict: 'CONFLICT',
  gone: 'NOT_FOUND', // tRPC has no nearer one
  too_large: 'PAYLOAD_TOO_LARGE',
  unprocessable: 'UNPROCESSABLE_CONTENT',
  too_many_requests: 'TOO_MANY_REQUESTS',
  client_closed: 'CLIENT_CLOSED_REQUEST',
  not_implemented: 'NOT_IMPLEMENTED',
  bad_gateway: 'BAD_GATEWAY',
  no_capacity: 'SERVICE_UNAVAILABLE',
  no_space: 'SERVICE_UNAVAILABLE',
  misdirected: 'SERVICE_UNAVAILABLE',
  unavailable: 'SERVICE_UNAVAILABLE',
  deadline_exceeded: 'GATEWAY_TIMEOUT',
};

export function toTrpcError(failure: Failure): TRPCError {
  return new TRPCError({
    code: CODES[failure.code] ?? 'INTERNAL_SERVER_ERROR',
    message: failure.message,
    cause: failure,
  });
}

/** What the client is told. The text of a bug stays with us. */
export function viewOf(error: TRPCError): FailureView {
  const { cause } = error;
  if (cause instanceof Failure) {
    const { code, message, retryable, retryAfterS } = cause;
    return { code, message, retryable, ...(retryAfterS === undefined ? {} : { retryAfterS }) };
  }
  if (error.code === 'INTERNAL_SERVER_ERROR') {
    return { code: 'internal', message: 'something of ours went wrong; asking again may help', retryable: true };
  }
  const code = Object.keys(CODES).find((known) => CODES[known] === error.code) ?? 'bad_request';
  const message = cause instanceof ZodError ? describeIssues(cause, 'the input') : error.message;
  return { code, message, retryable: false };
}
