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

/** What an answer that is made while it is sent has to say about itself. */
export interface StreamKind {
  readonly contentType: string;
  /** Why the sandbox must not fall asleep meanwhile; absent: the request itself is reason enough. */
  readonly keepAwake?: string;
  /** Aborted when nobody reads any more. For those who must open something before they know that there will be a stream. */
  readonly gone?: AbortController;
}

/** An answer that is made while it is sent. `signal` aborts when the caller has gone or has read enough, however it is told. */
export function answerStream(
  exchange: DataPlaneCall,
  kind: StreamKind,
  make: (signal: AbortSignal) => AsyncGenerator<string | Uint8Array>,
): DataPlaneAnswer {
  const gone = kind.gone ?? new AbortController();
  const release = kind.keepAwake === undefined ? undefined : exchange.hold?.keepAwake(kind.keepAwake);
  const source = make(AbortSignal.any([gone.signal, exchange.request.signal]));
  const body = Readable.from(
    endingAtOnce(source, () => {
      gone.abort(new Error('nobody reads this stream any more'));
      release?.();
    }),
    { objectMode: false },
  );
  return { status: 200, headers: { 'content-type': kind.contentType }, body };
}

/**
 * The same pieces, but ended without waiting for the piece that is being made: a destroyed stream would wait for it, and with it the signal that
 * ends the making.
 */
function endingAtOnce<T>(source: AsyncGenerator<T>, ended: () => void): AsyncIterable<T> {
  const iterator = {
    next: () => source.next(),
    return: (): Promise<IteratorResult<T>> => {
      ended();
      source.return(undefined).catch(() => {}); // runs its `finally`; what it may say then nobody asked for
      return Promise.resolve({ done: true, value: undefined });
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
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
