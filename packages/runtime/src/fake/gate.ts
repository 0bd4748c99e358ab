/**
 * Where everything inside a fake instance stops while it is frozen. A killed instance never passes it again: who waits for its answer waits until he
 * gives up, since a vanished machine sends no goodbye.
 */
export class Gate {
  #shut: { promise: Promise<void>; open: () => void } | undefined;
  #dead = false;

  get isShut(): boolean {
    return this.#shut !== undefined;
  }

  shut(): void {
    if (this.#shut || this.#dead) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#shut = { promise, open: resolve };
  }

  open(): void {
    if (this.#dead) return;
    this.#shut?.open();
    this.#shut = undefined;
  }

  kill(): void {
    this.#dead = true;
    this.#shut ??= { promise: new Promise(() => {}), open() {} };
  }

  /** Resolves when the way is open, at once if it is. */
  async passed(): Promise<void> {
    while (this.#shut) await this.#shut.promise;
  }
}
