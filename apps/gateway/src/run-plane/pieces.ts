/**
 * A caller's body as it comes, over as many attempts as it takes: a piece that one connection could not use is still there for the next. It breaks off
 * when the caller stalls.
 */
import type { IncomingMessage } from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Failure, type Clock } from '@torpor/kernel';

export class Pieces {
  readonly #request: IncomingMessage;
  readonly #clock: Clock;
  readonly #idleMs: number;
  readonly #source: AsyncIterator<Buffer>;
  readonly #bell = new AbortController();
  #next: Promise<Buffer | undefined> | undefined;
  #waitsSinceMs: number | undefined;
  #breakOff: ((failure: Failure) => void) | undefined;
  #watching = false;
  #touched = false;

  constructor(request: IncomingMessage, { clock, idleMs }: { clock: Clock; idleMs: number }) {
    this.#request = request;
    this.#clock = clock;
    this.#idleMs = idleMs;
    this.#source = request.iterator({ destroyOnReturn: false });
  }

  /** Whether a piece was taken: then the body can not be sent from its beginning any more. */
  get isTouched(): boolean {
    return this.#touched;
  }

  /** The first piece that was not taken yet, however often one asks; undefined after the last. Rejects when the caller stalls or has gone. */
  peek(): Promise<Buffer | undefined> {
    if (!this.#next) {
      this.#next = this.#pull();
      // The connection that asked may be gone by then; whoever asks next hears of it too.
      this.#next.catch(() => undefined);
    }
    return this.#next;
  }

  /** The piece was handed on. */
  take(): void {
    this.#touched = true;
    this.#next = undefined;
  }

  /** Nobody wants the rest. Reads it away, so that the caller's connection is good for its next request. */
  async drop(): Promise<void> {
    try {
      while ((await this.peek()) !== undefined) this.take();
    } catch {
      this.#request.destroy();
    } finally {
      this.close();
    }
  }

  close(): void {
    this.#bell.abort();
  }

  // No race against one promise for all stalls: it would hold on to every piece until the body is over.
  #pull(): Promise<Buffer | undefined> {
    return new Promise((resolve, reject) => {
      this.#breakOff = reject;
      this.#waitsSinceMs = this.#clock.monotonicMs();
      if (!this.#watching) {
        this.#watching = true;
        // Its only rejection is the bell, which rings when the body is over.
        this.#watchStalls(this.#bell.signal).catch(() => undefined);
      }
      this.#arrival().then(resolve, reject);
    });
  }

  async #arrival(): Promise<Buffer | undefined> {
    const { done, value } = await this.#source.next();
    this.#waitsSinceMs = undefined;
    if (!done) return value;
    if (!this.#request.complete) throw new Error('the body ended before it was whole');
    return undefined;
  }

  async #watchStalls(bell: AbortSignal): Promise<void> {
    for (;;) {
      const since = this.#waitsSinceMs;
      const quietMs = since === undefined ? 0 : this.#clock.monotonicMs() - since;
      if (quietMs < this.#idleMs) {
        await this.#clock.after(this.#idleMs - quietMs, bell);
        continue;
      }
      // On a busy machine it may be we who were late: bytes that are here already are read within a turn.
      await nextTurn();
      if (this.#waitsSinceMs === since) return this.#breakOff?.(stall(this.#idleMs));
    }
  }
}

function stall(idleMs: number): Failure {
  return new Failure(
    'request_timeout',
    `the timer "request body" ended: no byte of the body came for ${idleMs} ms; send it without pauses`,
    { retryable: true, details: { timer: 'request body', ms: idleMs } },
  );
}
