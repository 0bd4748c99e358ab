/** How long the wakes of one instance take: what was measured, and what to expect of the next. */
export class WakeTimes {
  #predictedMs: number | undefined;
  lastMs: number | undefined;
  count = 0;

  constructor(predictedMs?: number) {
    this.#predictedMs = predictedMs;
  }

  /** Leans towards the slow ones: a budget is broken by them. `undefined` before the first wake. */
  get predictedMs(): number | undefined {
    return this.#predictedMs;
  }

  add(ms: number): void {
    this.lastMs = ms;
    this.count++;
    const before = this.#predictedMs ?? ms;
    this.#predictedMs = before + (ms - before) * (ms > before ? 0.5 : 0.1);
  }
}
