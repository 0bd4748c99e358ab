/** Runs tasks of one key one after another; different keys run side by side. The key is forgotten when nothing waits for it. */
export class KeyedQueue<Key> {
  readonly #tails = new Map<Key, Promise<unknown>>();

  run<T>(key: Key, task: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const mine = before.then(task, task);
    const settled: Promise<void> = mine.then(
      () => this.#forget(key, settled),
      () => this.#forget(key, settled),
    );
    this.#tails.set(key, settled);
    return mine;
  }

  isBusy(key: Key): boolean {
    return this.#tails.has(key);
  }

  #forget(key: Key, tail: Promise<unknown>): void {
    if (this.#tails.get(key) === tail) this.#tails.delete(key);
  }
}
