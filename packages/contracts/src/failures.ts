/** Every code a Failure may carry, whose it is, and the HTTP status that management routes answer with. */
export const FAILURES = {
  bad_request: { status: 400, whose: 'caller' },
  unauthenticated: { status: 401, whose: 'caller' },
  forbidden: { status: 403, whose: 'caller' },
  not_found: { status: 404, whose: 'caller' },
  method_not_allowed: { status: 405, whose: 'caller' },
  request_timeout: { status: 408, whose: 'caller' },
  conflict: { status: 409, whose: 'caller' },
  gone: { status: 410, whose: 'caller' },
  too_large: { status: 413, whose: 'caller' },
  misdirected: { status: 421, whose: 'platform' },
  unprocessable: { status: 422, whose: 'caller' },
  too_many_requests: { status: 429, whose: 'caller' },
  client_closed: { status: 499, whose: 'caller' },
  internal: { status: 500, whose: 'platform' },
  not_implemented: { status: 501, whose: 'platform' },
  bad_gateway: { status: 502, whose: 'platform' },
  no_capacity: { status: 503, whose: 'platform' },
  unavailable: { status: 503, whose: 'platform' },
  deadline_exceeded: { status: 504, whose: 'platform' },
  no_space: { status: 507, whose: 'caller' },
} as const;

export type FailureCode = keyof typeof FAILURES;

export function statusOf(code: string): number {
  return Object.hasOwn(FAILURES, code) ? FAILURES[code as FailureCode].status : 500; // hasOwn has just proven the key
}
