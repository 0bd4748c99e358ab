import { Failure, withDeadline, type Clock } from '@torpor/kernel';

const HELD_MAX = 2_000;

/** Requests that wait for an instance to be awake: bounded in number and in time. */
export class Held {
  readonly #clock: Clock;
  readonly #waiting = new Set<PromiseWithResolvers<void>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get count(): number {
    return this.#waiting.size;
  }

  async wait(timer: { name: string; ms: number }, signal: AbortSignal | undefined): Promise<void> {
    if (this.#waiting.size >= HELD_MAX) {
      throw new Failure('unavailable', `${HELD_MAX} requests wait for this sandbox already`, {
        retryable: true,
        retryAfterS: 1,
      });
    }
    const turn = Promise.withResolvers<void>();
    this.#waiting.add(turn);
    try {
      await withDeadline({ ...timer, clock: this.#clock, ...(signal ? { outer: signal } : {}) }, () => turn.promise);
    } finally {
      this.#waiting.delete(turn);
    }
  }

  letIn(): void {
    for (const turn of this.#waiting) turn.resolve();
    this.#waiting.clear();
  }

  turnAway(failure: Failure): void {
    for (const turn of this.#waiting) turn.reject(failure);
    this.#waiting.clear();
  }
}
