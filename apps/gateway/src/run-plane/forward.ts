/**
 * One request to a node and its answer back, byte by byte, unbuffered and with backpressure both ways. This file knows nothing of who asks and where
 * to; it says how it ended, and it has touched the caller's response only when the outcome says so.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Failure, type Clock } from '@torpor/kernel';
import type { Dispatcher } from 'undici';
import { headersForCaller } from './headers.ts';
import type { OutgoingBody } from './body.ts';

export interface Errand {
  readonly origin: string;
  /** Raw path and query. */
  readonly path: string;
  readonly headers: string[];
  readonly body: OutgoingBody;
  /** Added to whatever the node answers. */
  readonly answerHeaders?: Readonly<Record<string, string>> | undefined;
  readonly cookie?: string | undefined;
}

export type Outcome =
  /** Begun and ended well. */
  | {
      readonly kind: 'answered';
      readonly status: number;
      readonly bytes: number;
      readonly serverTiming: string | undefined;
    }
  /** Begun and broken off: the caller sees a cut connection. */
  | { readonly kind: 'broken'; readonly status: number; readonly bytes: number; readonly cause: unknown }
  | { readonly kind: 'caller gone' }
  // In the rest nothing was sent to the caller yet.
  /** The node does not hold this generation, and has not read the body. */
  | { readonly kind: 'misdirected' }
  /** No byte reached the node. */
  | { readonly kind: 'unreachable'; readonly cause: unknown }
  /** The connection to the node ended before an answer. */
  | { readonly kind: 'unanswered'; readonly cause: unknown }
  /** The caller's body stalled. */
  | { readonly kind: 'stalled'; readonly failure: Failure };

export function forward(
  parts: { dispatcher: Dispatcher; clock: Clock; drainMs: number },
  request: IncomingMessage,
  response: ServerResponse,
  errand: Errand,
): Promise<Outcome> {
  return new Promise((resolve) => {
    const passing = new Passing(parts, response, errand, resolve);
    const { body } = errand;
    try {
      parts.dispatcher.dispatch(
        {
          origin: errand.origin,
          path: errand.path,
          // The parser of our server knows the same methods as undici.
          method: request.method as Dispatcher.HttpMethod,
          headers: errand.headers,
          body: body.kind === 'none' ? null : body.kind === 'whole' ? body.bytes : (body.chunks() as never), // undici takes async iterables; its types do not say so
        },
        passing,
      );
    } catch (error) {
      passing.onResponseError(undefined, error);
    }
  });
}

class Passing implements Dispatcher.DispatchHandler {
  readonly #response: ServerResponse;
  readonly #errand: Errand;
  readonly #resolve: (outcome: Outcome) => void;
  readonly #clock: Clock;
  readonly #drainMs: number;
  #controller: Dispatcher.DispatchController | undefined;
  #status = 0;
  #bytes = 0;
  #serverTiming: string | undefined;
  #misdirected = false;
  #ended = false;
  #gone = false;

  constructor(
    parts: { clock: Clock; drainMs: number },
    response: ServerResponse,
    errand: Errand,
    resolve: (outcome: Outcome) => void,
  ) {
    this.#clock = parts.clock;
    this.#drainMs = parts.drainMs;
    this.#response = response;
    this.#errand = errand;
    this.#resolve = resolve;
    response.once('close', this.#onCallerClosed);
    if (response.destroyed) this.#gone = true;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#gone) controller.abort(CALLER_GONE);
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    if (status < 200) return;
    if (status === 421) {
      this.#misdirected = true;
      return;
    }
    this.#status = status;
    const timing = headers['server-timing'];
    this.#serverTiming = typeof timing === 'string' ? timing : timing?.join(', ');
    const response = this.#response;
    response.writeHead(status, headersForCaller(headers, this.#errand.answerHeaders, this.#errand.cookie));
    // A short answer leaves in one packet with its head; the head of a stream must not wait for its first byte.
    queueMicrotask(() => {
      if (this.#bytes === 0 && !response.writableEnded && !response.destroyed) response.flushHeaders();
    });
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#misdirected) return;
    this.#bytes += chunk.length;
    if (this.#response.write(chunk)) return;
    controller.pause();
    void this.#resumeOnceDrained(controller);
  }

  onResponseEnd(): void {
    if (this.#misdirected) return this.#end({ kind: 'misdirected' });
    this.#response.end();
    this.#end({ kind: 'answered', status: this.#status, bytes: this.#bytes, serverTiming: this.#serverTiming });
  }

  onResponseError(_controller: unknown, error: unknown): void {
    if (this.#gone) return this.#end({ kind: 'caller gone' });
    if (this.#status !== 0) {
      this.#end({ kind: 'broken', status: this.#status, bytes: this.#bytes, cause: error });
      this.#response.destroy();
      return;
    }
    if (this.#misdirected) return this.#end({ kind: 'misdirected' });
    if (error instanceof Failure && error.code === 'request_timeout') {
      return this.#end({ kind: 'stalled', failure: error });
    }
    this.#end({ kind: isUnreachable(error) ? 'unreachable' : 'unanswered', cause: error });
  }

  readonly #onCallerClosed = (): void => {
    if (this.#response.writableFinished) return;
    this.#gone = true;
    this.#controller?.abort(CALLER_GONE);
  };

  async #resumeOnceDrained(controller: Dispatcher.DispatchController): Promise<void> {
    const bell = new AbortController();
    const drained = () => bell.abort();
    this.#response.once('drain', drained).once('close', drained);
    const late = await this.#clock.after(this.#drainMs, bell.signal).then(
      () => true,
      () => false,
    );
    this.#response.off('drain', drained).off('close', drained);
    if (late) {
      controller.abort(
        new Failure('client_closed', `the timer "answer taken" ended: the caller took no byte for ${this.#drainMs} ms`),
      );
    } else controller.resume();
  }

  #end(outcome: Outcome): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#response.off('close', this.#onCallerClosed);
    this.#resolve(outcome);
  }
}

const CALLER_GONE = new Error('the caller has closed its connection');

const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
]);

function isUnreachable(error: unknown): boolean {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && UNREACHABLE.has(code);
}
