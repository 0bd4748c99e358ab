import { explain } from '@torpor/kernel';
import type { Parts } from '../parts.ts';

/** Something that is to happen to a sleeping instance after a while, unless it stops sleeping before. */
export class Due {
  readonly #parts: Parts;
  readonly #happen: () => void;
  #timer: AbortController | undefined;

  constructor(parts: Parts, happen: () => void) {
    this.#parts = parts;
    this.#happen = happen;
  }

  after(ms: number): void {
    this.stop();
    const timer = (this.#timer = new AbortController());
    this.#parts.clock
      .after(ms, timer.signal)
      .then(
        () => this.#happen(),
        () => {}, // stopped before
      )
      .catch((error: unknown) => this.#parts.events.bug({ where: 'sleep timer', reason: explain(error) }));
  }

  stop(): void {
    this.#timer?.abort();
    this.#timer = undefined;
  }
}
