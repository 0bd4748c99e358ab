/**
 * Wakes from the disk that wait for memory: served strictly in the order in which they came, so that a large one is not passed by small ones for ever. Whoever
 * would wait for too long is refused at once, and told when to ask again; whoever has waited for too long, then.
 */
import { Failure, withDeadline, type Clock } from '@torpor/kernel';

/** A request is held for 15 s, and what comes after the memory takes its time too. */
const WAIT_MS = 10_000;
/** From so many sleepers it is told how quickly memory comes free. */
const REMEMBERED = 8;
const RETRY_S_MAX = 30;

interface Waiting {
  readonly mib: number;
  readonly turn: PromiseWithResolvers<void>;
}

export class WakeLine {
  readonly #clock: Clock;
  readonly #waiting: Waiting[] = [];
  #freed: { readonly mib: number; readonly tookMs: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get length(): number {
    return this.#waiting.length;
  }

  /** What they want together. */
  get mib(): number {
    return this.#waiting.reduce((sum, { mib }) => sum + mib, 0);
  }

  /** So much came free in so long. Of those that gave up theirs side by side, each is told with its part of the time. */
  freed(mib: number, tookMs: number): void {
    this.#freed = [...this.#freed, { mib, tookMs }].slice(-REMEMBERED);
  }

  /** Resolves when its turn has come. `lackMib`: how much must come free first for those before it and for itself. */
  async wait(mib: number, lackMib: number, why: () => string, closing: AbortSignal): Promise<void> {
    const expectedMs = this.#expectedMs(lackMib);
    if (expectedMs > WAIT_MS) throw full(why(), expectedMs);
    const waiting: Waiting = { mib, turn: Promise.withResolvers<void>() };
    this.#waiting.push(waiting);
    try {
      const timer = { name: 'wait of a wake for memory', ms: WAIT_MS, clock: this.#clock, outer: closing };
      await withDeadline(timer, () => waiting.turn.promise);
    } catch (cause) {
      const at = this.#waiting.indexOf(waiting);
      if (at >= 0) this.#waiting.splice(at, 1);
      closing.throwIfAborted();
      throw full(`${why()}, and none came free in ${WAIT_MS} ms`, this.#expectedMs(lackMib), cause);
    }
  }

  /** Lets go on whoever is first, as long as there is room for it: `take` says so, and counts it. */
  serve(take: (mib: number) => boolean): void {
    for (let first = this.#waiting[0]; first && take(first.mib); first = this.#waiting[0]) {
      this.#waiting.shift();
      first.turn.resolve();
    }
  }

  /** As quickly as of late; while nothing is known of that, it is worth waiting. */
  #expectedMs(lackMib: number): number {
    const mib = this.#freed.reduce((sum, one) => sum + one.mib, 0);
    const tookMs = this.#freed.reduce((sum, one) => sum + one.tookMs, 0);
    return mib === 0 ? 0 : (lackMib / mib) * tookMs;
  }
}

export function full(lack: string, expectedMs: number, cause?: unknown): Failure {
  const retryAfterS = Math.min(RETRY_S_MAX, Math.max(5, Math.ceil(expectedMs / 1_000)));
  return new Failure('no_capacity', `this node is full: ${lack}`, { retryable: true, retryAfterS, cause });
}
