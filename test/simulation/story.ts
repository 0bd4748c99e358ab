import type { Clock } from '@torpor/kernel';

/** What happened, in order: printed when a seed fails, and the same each time the seed is played. */
export class Story {
  readonly lines: string[] = [];
  readonly broken: string[] = [];
  readonly #clock: Clock;
  readonly #sinceMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#sinceMs = clock.nowMs();
  }

  tell(who: string, what: string): void {
    this.lines.push(
      `${((this.#clock.nowMs() - this.#sinceMs) / 1000).toFixed(3).padStart(9)}  ${who.padEnd(10)} ${what}`,
    );
  }

  /** A promise was broken. */
  breaks(promise: string): void {
    this.tell('BROKEN', promise);
    this.broken.push(promise);
  }
}
