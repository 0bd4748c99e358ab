/**
 * How Blaxel's planes say no. Three shapes are in use, and clients look inside the body rather than at the HTTP status:
 * the general one (numeric `code`), the one of sandbox creation (`code` is a word), and the one of the run plane (nested).
 */
import { statusOf } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';

/** An answer that refuses: status and JSON body. */
export interface BlaxelRefusal {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  /** Seconds, for `Retry-After`. */
  readonly retryAfterS?: number;
}

/** What a parse gives: a value, or the refusal to answer with. */
export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly refusal: BlaxelRefusal };

export function accept<T>(value: T): Parsed<T> {
  return { ok: true, value };
}

export function refuse(status: number, message: string): { readonly ok: false; readonly refusal: BlaxelRefusal } {
  return { ok: false, refusal: blaxelError(status, message) };
}

const STATUS_WORDS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  402: 'Payment Required',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  409: 'Conflict',
  410: 'Gone',
  413: 'Payload Too Large',
  422: 'Unprocessable Entity',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
  507: 'Insufficient Storage',
};

/** The general shape: `{code: 404, error: 'Not Found', message}`. The SDK decides on the numeric `code`. */
export function blaxelError(status: number, message: string, retryAfterS?: number): BlaxelRefusal {
  const body = { code: status, error: STATUS_WORDS[status] ?? 'Error', message };
  return { status, body, ...(retryAfterS === undefined ? {} : { retryAfterS }) };
}

/** A Failure in the general shape. What is no Failure is a bug of ours: its text stays in our logs. */
export function blaxelErrorOf(error: unknown): BlaxelRefusal {
  if (!(error instanceof Failure)) return blaxelError(500, 'something of ours went wrong; asking again may help');
  return blaxelError(statusOf(error.code), error.message, error.retryAfterS);
}

export type CreationCode =
  | 'SANDBOX_ALREADY_EXISTS'
  | 'INVALID_IMAGE'
  | 'INVALID_REQUEST'
  | 'QUOTA_EXCEEDED'
  | 'CAPACITY_UNAVAILABLE'
  | 'NOT_SUPPORTED'
  | 'CREATION_FAILED';

export interface CreationRefusal {
  readonly status: number;
  readonly code: CreationCode;
  readonly message: string;
  readonly workspace: string;
  readonly sandboxName?: string;
  /** Where it went wrong: `validation`, `image`, `placement`, `start`. */
  readonly step: string;
  readonly atMs: number;
  readonly details?: Readonly<Record<string, unknown>>;
  readonly retryAfterS?: number;
}

/** The shape of sandbox creation: `{code: 'INVALID_IMAGE', message, status_code, …}`. */
export function blaxelCreationError(why: CreationRefusal): BlaxelRefusal {
  const body = {
    code: why.code,
    error: why.message,
    message: why.message,
    status_code: why.status,
    step: why.step,
    ...(why.sandboxName === undefined ? {} : { sandbox_name: why.sandboxName }),
    workspace: why.workspace,
    timestamp: new Date(why.atMs).toISOString(),
    details: why.details ?? {},
  };
  return { status: why.status, body, ...(why.retryAfterS === undefined ? {} : { retryAfterS: why.retryAfterS }) };
}

const CREATION_CODES: Readonly<Record<string, { code: CreationCode; step: string }>> = {
  bad_request: { code: 'INVALID_REQUEST', step: 'validation' },
  unprocessable: { code: 'INVALID_REQUEST', step: 'validation' },
  conflict: { code: 'SANDBOX_ALREADY_EXISTS', step: 'validation' },
  not_implemented: { code: 'NOT_SUPPORTED', step: 'validation' },
  too_many_requests: { code: 'QUOTA_EXCEEDED', step: 'validation' },
  no_capacity: { code: 'CAPACITY_UNAVAILABLE', step: 'placement' },
  no_space: { code: 'CAPACITY_UNAVAILABLE', step: 'placement' },
};

/** What the scheduler's refusal to create means on Blaxel's wire. */
export function blaxelCreationErrorOf(
  error: unknown,
  about: { workspace: string; sandboxName?: string; nowMs: number },
): BlaxelRefusal {
  const failure =
    error instanceof Failure ? error : new Failure('internal', 'something of ours went wrong; asking again may help');
  const known = CREATION_CODES[failure.code] ?? { code: 'CREATION_FAILED' as const, step: 'start' };
  return blaxelCreationError({
    ...known,
    status: statusOf(failure.code),
    message: failure.message,
    workspace: about.workspace,
    ...(about.sandboxName === undefined ? {} : { sandboxName: about.sandboxName }),
    atMs: about.nowMs,
    ...(failure.details === undefined ? {} : { details: failure.details }),
    ...(failure.retryAfterS === undefined ? {} : { retryAfterS: failure.retryAfterS }),
  });
}

/** The run plane's codes, with what the caller should do about each. */
const RUN_ERRORS = {
  ROUTE_NOT_FOUND: { status: 404, retryable: false, action: 'check the path', doNot: 'retry' },
  WORKLOAD_NOT_FOUND: { status: 404, retryable: false, action: 'check the name, or create it', doNot: 'retry' },
  WORKSPACE_NOT_FOUND: { status: 404, retryable: false, action: 'check the workspace', doNot: 'retry' },
  WORKLOAD_UNAVAILABLE: { status: 502, retryable: true, action: 'retry with backoff', doNot: 'recreate the workload' },
  AUTHENTICATION_REQUIRED: { status: 401, retryable: false, action: 'send credentials', doNot: 'retry without them' },
  AUTHENTICATION_FAILED: {
    status: 401,
    retryable: false,
    action: 'check the credentials',
    doNot: 'retry with the same',
  },
  FORBIDDEN: { status: 403, retryable: false, action: 'ask for access', doNot: 'retry' },
  BAD_REQUEST: { status: 400, retryable: false, action: 'correct the request', doNot: 'retry unchanged' },
  USAGE_LIMIT_EXCEEDED: { status: 402, retryable: false, action: 'raise the limit', doNot: 'retry' },
  POLICY_VIOLATION: { status: 403, retryable: false, action: 'change the request or the policy', doNot: 'retry' },
  REQUEST_ENTITY_TOO_LARGE: { status: 413, retryable: false, action: 'send less at once', doNot: 'retry unchanged' },
  TOO_MANY_REQUESTS: { status: 429, retryable: true, action: 'retry later', doNot: 'retry at once' },
  INTERNAL: { status: 500, retryable: true, action: 'retry once, then report it', doNot: 'retry in a loop' },
} as const;

export type RunErrorCode = keyof typeof RUN_ERRORS;

/** The run plane's shape: `{error: {code, message, status, retryable, …}}`. */
export function blaxelRunError(
  code: RunErrorCode,
  message: string,
  more: { nowMs: number; status?: number; retryAfterS?: number },
): BlaxelRefusal {
  const known = RUN_ERRORS[code];
  const status = more.status ?? known.status;
  const error = {
    code,
    message,
    status,
    retryable: known.retryable,
    action: known.action,
    do_not: known.doNot,
    docs_url: '',
    origin: 'platform',
    timestamp: new Date(more.nowMs).toISOString(),
  };
  return { status, body: { error }, ...(more.retryAfterS === undefined ? {} : { retryAfterS: more.retryAfterS }) };
}

const RUN_CODES: Readonly<Record<string, RunErrorCode>> = {
  bad_request: 'BAD_REQUEST',
  method_not_allowed: 'BAD_REQUEST',
  unauthenticated: 'AUTHENTICATION_FAILED',
  forbidden: 'FORBIDDEN',
  not_found: 'WORKLOAD_NOT_FOUND',
  gone: 'WORKLOAD_NOT_FOUND',
  too_large: 'REQUEST_ENTITY_TOO_LARGE',
  too_many_requests: 'TOO_MANY_REQUESTS',
  internal: 'INTERNAL',
};

/** What a Failure on the way to a sandbox means on the run plane. Whatever is no better known means: not reachable now. */
export function blaxelRunErrorOf(error: unknown, nowMs: number): BlaxelRefusal {
  if (!(error instanceof Failure)) {
    return blaxelRunError('INTERNAL', 'something of ours went wrong; asking again may help', { nowMs });
  }
  const code = RUN_CODES[error.code] ?? 'WORKLOAD_UNAVAILABLE';
  const more = error.retryAfterS === undefined ? { nowMs } : { nowMs, retryAfterS: error.retryAfterS };
  return blaxelRunError(code, error.message, { ...more, status: statusOf(error.code) });
}
