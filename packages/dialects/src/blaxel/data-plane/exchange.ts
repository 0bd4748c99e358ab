/** One request on its way through the data plane, and the answers it may get. */
import { Readable } from 'node:stream';
import { statusOf } from '@torpor/contracts';
import { Failure, type Chance, type Clock } from '@torpor/kernel';
import type { Guest } from '@torpor/runtime';

export interface DataPlaneRequest {
  readonly method: string;
  /** Path and query behind the sandbox's prefix, as they came on the wire: nothing decoded, no slashes merged. */
  readonly rawPath: string;
  /** Names in lower case, as `node:http` gives them. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Readable;
  /** Aborts when the caller has gone. */
  readonly signal: AbortSignal;
}

export interface DataPlaneAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Readable | Buffer | undefined;
}

export interface DataPlaneCall {
  readonly request: DataPlaneRequest;
  readonly guest: Guest;
  /** Where relative paths start: the instance's workdir. */
  readonly workdir: string;
  readonly clock: Clock;
  readonly chance: Chance;
  /** Told while a stream is open, so that the sandbox does not fall asleep under it. Keep-alive processes are the guest's to tell (`guest.busy`). */
  readonly hold?: { keepAwake(reason: string): () => void };
}

/** A call whose address has been read. */
export interface Exchange extends DataPlaneCall {
  /** The parts of the path that the route names, decoded once. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
}

export function answerJson(body: unknown, status = 200): DataPlaneAnswer {
  return {
    status,
    headers: { 'content-type': 'application/json; charset=utf-8' },
    body: Buffer.from(JSON.stringify(body)),
  };
}

/** A refusal in the dialect's shape. */
export function answerFailure(failure: Failure): DataPlaneAnswer {
  // A token that the guest does not take is a matter between us and the guest.
  const status = failure.code === 'unauthenticated' ? 502 : statusOf(failure.code);
  const answer = answerJson({ error: failure.message }, status);
  if (failure.retryAfterS === undefined) return answer;
  return { ...answer, headers: { ...answer.headers, 'retry-after': String(failure.retryAfterS) } };
}

/**
 * An answer that is made while it is sent. `signal` aborts when the caller has gone or has read enough, however it is told; until then
 * the sandbox is kept awake.
 */
export function answerStream(
  exchange: DataPlaneCall,
  kind: { readonly contentType: string; readonly keepAwake?: string },
  make: (signal: AbortSignal) => AsyncIterable<string | Uint8Array>,
): DataPlaneAnswer {
  const gone = new AbortController();
  const release = kind.keepAwake === undefined ? undefined : exchange.hold?.keepAwake(kind.keepAwake);
  const body = Readable.from(make(AbortSignal.any([gone.signal, exchange.request.signal])), { objectMode: false });
  body.once('close', () => {
    gone.abort(new Error('nobody reads this stream any more'));
    release?.();
  });
  return { status: 200, headers: { 'content-type': kind.contentType }, body };
}

export function badRequest(message: string): Failure {
  return new Failure('bad_request', message);
}

/** A Failure of one code as another: what the guest calls a conflict, this dialect may call unprocessable. */
export function recode(error: unknown, codes: Readonly<Record<string, string>>): unknown {
  if (!(error instanceof Failure)) return error;
  const code = codes[error.code];
  return code === undefined ? error : new Failure(code, error.message, { cause: error });
}
