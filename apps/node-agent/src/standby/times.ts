import type { WakeRecord } from '@torpor/contracts';
import { predictMs } from '@torpor/policy';

const KEPT = 20;

/** How long the last wakes of one instance from one tier took, or its stores. */
export class Times {
  readonly #ms: number[];

  /** The oldest first. */
  constructor(measuredMs: readonly number[] = []) {
    this.#ms = measuredMs.slice(-KEPT);
  }

  get measuredMs(): readonly number[] {
    return this.#ms;
  }

  /** `undefined` before the first was measured. */
  get predictedMs(): number | undefined {
    return predictMs(this.#ms);
  }

  get record(): WakeRecord | undefined {
    const lastMs = this.#ms.at(-1);
    const { predictedMs } = this;
    if (lastMs === undefined || predictedMs === undefined) return undefined;
    return { lastMs, predictedMs, measured: this.#ms.length };
  }

  add(ms: number): void {
    this.#ms.push(ms);
    if (this.#ms.length > KEPT) this.#ms.shift();
  }
}
