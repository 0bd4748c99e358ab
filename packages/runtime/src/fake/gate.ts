/** Where everything inside a fake instance stops while it is frozen. Killing opens it with an error, for ever. */
export class Gate {
  #shut: { promise: Promise<void>; open: () => void; fail: (error: Error) => void } | undefined;
  #dead: Error | undefined;

  get isShut(): boolean {
    return this.#shut !== undefined;
  }

  shut(): void {
    if (this.#shut || this.#dead) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    promise.catch(() => {}); // nobody may be waiting when it is killed
    this.#shut = { promise, open: resolve, fail: reject };
  }

  open(): void {
    const shut = this.#shut;
    this.#shut = undefined;
    shut?.open();
  }

  kill(error: Error): void {
    this.#dead = error;
    this.#shut?.fail(error);
    this.#shut = undefined;
  }

  /** Resolves when the way is open, at once if it is. */
  async passed(): Promise<void> {
    while (this.#shut) await this.#shut.promise;
    if (this.#dead) throw this.#dead;
  }
}
