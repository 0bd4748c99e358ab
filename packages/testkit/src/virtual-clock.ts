import type { Clock } from '@torpor/kernel';

interface Timer {
  readonly atMs: number;
  readonly turn: number;
  ring(): void;
}

/**
 * Time that passes only when it is told to, for tests and the simulator. Between two timers everything that was set going by the first one runs until
 * it waits again, so the same story is told each time.
 */
export class VirtualClock implements Clock {
  #nowMs: number;
  readonly #startMs: number;
  #timers: Timer[] = [];
  #turn = 0;

  constructor(startMs = 1_800_000_000_000) {
    this.#nowMs = startMs;
    this.#startMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs - this.#startMs;
  }

  after(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const timer: Timer = {
        atMs: this.#nowMs + Math.max(0, ms),
        turn: this.#turn++,
        ring: () => {
          signal?.removeEventListener('abort', stop);
          resolve();
        },
      };
      const stop = () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
        reject(signal?.reason);
      };
      this.#add(timer);
      signal?.addEventListener('abort', stop, { once: true });
    });
  }

  /** Lets `ms` pass, timer by timer. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await settled();
    while (this.#timers[0] && this.#timers[0].atMs <= untilMs) await this.#ringNext();
    this.#nowMs = untilMs;
  }

  /** Lets time pass until the work is done, at most `withinMs`; gives back its result. */
  async until<T>(work: Promise<T>, withinMs = 600_000): Promise<T> {
    const untilMs = this.#nowMs + withinMs;
    let over = false;
    const end = () => {
      over = true;
    };
    work.then(end, end);
    await settled();
    // oxlint-disable-next-line no-unmodified-loop-condition -- `end` changes it, from the work itself
    while (!over) {
      const next = this.#timers[0];
      if (!next || next.atMs > untilMs) throw new Error(`the work is not done after ${withinMs} ms of virtual time`);
      await this.#ringNext();
    }
    return work;
  }

  /** Lets time pass until the condition holds, at most `withinMs`. */
  async untilTrue(condition: () => boolean | Promise<boolean>, withinMs = 600_000): Promise<void> {
    const untilMs = this.#nowMs + withinMs;
    await settled();
    while (!(await condition())) {
      const next = this.#timers[0];
      if (!next || next.atMs > untilMs)
        throw new Error(`the condition does not hold after ${withinMs} ms of virtual time`);
      await this.#ringNext();
    }
  }

  async #ringNext(): Promise<void> {
    const next = this.#timers.shift();
    if (!next) return;
    this.#nowMs = Math.max(this.#nowMs, next.atMs);
    next.ring();
    await settled();
  }

  /** Kept in order of time, and of setting within one time. */
  #add(timer: Timer): void {
    let at = this.#timers.length;
    while (at > 0 && (this.#timers[at - 1]?.atMs ?? 0) > timer.atMs) at--;
    this.#timers.splice(at, 0, timer);
  }
}

/** Everything that can go on without time passing has gone on. */
async function settled(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}
