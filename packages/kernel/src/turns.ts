/** At most so many tasks at once; the others wait, and come in the order in which they asked. */
export class Turns {
  readonly #atOnce: number;
  readonly #waiting = new Set<() => void>();
  #running = 0;

  constructor(atOnce: number) {
    this.#atOnce = atOnce;
  }

  /**
   * Rejects with the signal's reason when it aborts before the task has begun; one that has begun is not cut short. Its turn ends with it, or when it
   * passes it on before.
   */
  async run<T>(task: (passOn: () => void) => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    if (this.#running < this.#atOnce) this.#running++;
    else await this.#turn(signal);
    let isOver = false;
    const passOn = () => {
      if (!isOver) this.#pass();
      isOver = true;
    };
    try {
      return await task(passOn);
    } finally {
      passOn();
    }
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const come = () => {
        signal?.removeEventListener('abort', leave);
        resolve();
      };
      const leave = () => {
        this.#waiting.delete(come);
        reject(signal?.reason);
      };
      this.#waiting.add(come);
      signal?.addEventListener('abort', leave, { once: true });
    });
  }

  #pass(): void {
    const [next] = this.#waiting;
    if (!next) return void this.#running--;
    this.#waiting.delete(next);
    next();
  }
}
