/**
 * One request to a node and its answer back, byte by byte, unbuffered and with backpressure both ways. This file knows nothing of who asks and where
 * to; it says how it ended, and it has touched the caller's response only when the outcome says so.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Failure, type AnswerHead, type Clock } from '@torpor/kernel';
import { headersForCaller } from './headers.ts';
import { isMisdirected } from './misdirected.ts';
import type { OutgoingBody } from './body.ts';
import { Unreachable, type NodeAnswerListener, type NodeConnections, type Ongoing } from './node-connections.ts';

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
  parts: { nodes: NodeConnections; clock: Clock; drainMs: number },
  request: IncomingMessage,
  response: ServerResponse,
  errand: Errand,
): Promise<Outcome> {
  return new Promise((resolve) => {
    if (response.destroyed) return resolve({ kind: 'caller gone' });
    const passing = new Passing(parts, response, errand, resolve);
    const { origin, path, headers, body } = errand;
    passing.begin(parts.nodes.send({ origin, path, headers, body, method: request.method ?? 'GET' }, passing));
  });
}

class Passing implements NodeAnswerListener {
  readonly #response: ServerResponse;
  readonly #errand: Errand;
  readonly #resolve: (outcome: Outcome) => void;
  readonly #clock: Clock;
  readonly #drainMs: number;
  #ongoing: Ongoing | undefined;
  #status = 0;
  #bytes = 0;
  #serverTiming: string | undefined;
  #misdirected = false;
  #gone = false;
  #blockedAtMs: number | undefined;
  #bell: AbortController | undefined;

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
  }

  begin(ongoing: Ongoing): void {
    this.#ongoing = ongoing;
    this.#response.once('close', this.#onCallerClosed);
  }

  onHead({ status, headers }: AnswerHead): void {
    if (isMisdirected(status, headers)) {
      this.#misdirected = true;
      return;
    }
    this.#status = status;
    const timing = headers['server-timing'];
    this.#serverTiming = Array.isArray(timing) ? timing.join(', ') : timing;
    const response = this.#response;
    response.writeHead(status, headersForCaller(headers, this.#errand.answerHeaders, this.#errand.cookie));
    // A short answer leaves in one packet with its head; the head of a stream must not wait for its first byte.
    queueMicrotask(() => {
      if (this.#bytes === 0 && !response.writableEnded && !response.destroyed) response.flushHeaders();
    });
  }

  onData(chunk: Buffer): boolean {
    if (this.#misdirected) return true;
    this.#bytes += chunk.length;
    if (this.#response.write(chunk)) return true;
    this.#blockedAtMs = this.#clock.monotonicMs();
    if (!this.#bell) {
      this.#bell = new AbortController();
      // Its only rejection is the bell, which rings when the answer is over.
      this.#watchHoldUps(this.#bell.signal).catch(() => undefined);
    }
    return false;
  }

  onEnd(): void {
    if (this.#misdirected) return this.#end({ kind: 'misdirected' });
    this.#end({ kind: 'answered', status: this.#status, bytes: this.#bytes, serverTiming: this.#serverTiming });
    this.#response.end();
  }

  onError(error: unknown): void {
    if (this.#gone) return this.#end({ kind: 'caller gone' });
    if (this.#status !== 0) {
      this.#end({ kind: 'broken', status: this.#status, bytes: this.#bytes, cause: error });
      breakOff(this.#response);
      return;
    }
    if (this.#misdirected) return this.#end({ kind: 'misdirected' });
    if (error instanceof Failure && error.code === 'request_timeout') {
      return this.#end({ kind: 'stalled', failure: error });
    }
    this.#end({ kind: error instanceof Unreachable ? 'unreachable' : 'unanswered', cause: error });
  }

  readonly #onCallerClosed = (): void => {
    if (this.#response.writableFinished) return;
    this.#gone = true;
    this.#ongoing?.abort(new Error('the caller has closed its connection'));
  };

  readonly #onDrained = (): void => {
    this.#blockedAtMs = undefined;
    this.#ongoing?.resume();
  };

  /** Gives up a caller that takes nothing for too long. Begun with the first hold-up, for most answers have none. */
  async #watchHoldUps(bell: AbortSignal): Promise<void> {
    this.#response.on('drain', this.#onDrained);
    for (;;) {
      const heldMs = this.#blockedAtMs === undefined ? 0 : this.#clock.monotonicMs() - this.#blockedAtMs;
      if (heldMs >= this.#drainMs) break;
      await this.#clock.after(this.#drainMs - heldMs, bell);
    }
    const message = `the timer "answer taken" ended: the caller took no byte for ${this.#drainMs} ms`;
    this.#ongoing?.abort(new Failure('client_closed', message));
  }

  #end(outcome: Outcome): void {
    this.#response.off('close', this.#onCallerClosed).off('drain', this.#onDrained);
    this.#bell?.abort();
    this.#resolve(outcome);
  }
}

/** So that nobody takes what came for all of it. To HTTP/1.0 there are no chunks: the end of the connection is the end of the answer. */
export function breakOff(response: ServerResponse): void {
  if (response.req.httpVersionMinor === 0) response.socket?.resetAndDestroy();
  response.destroy();
}
