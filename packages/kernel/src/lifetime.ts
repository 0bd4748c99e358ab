/** Owns what was opened and closes it in reverse order. Closing twice is once; one failure does not keep the others open. */
export class Lifetime {
  readonly #open: { name: string; close: () => unknown }[] = [];
  #closing: Promise<void> | undefined;
  readonly #ended = new AbortController();

  /** Aborts when closing begins. */
  get signal(): AbortSignal {
    return this.#ended.signal;
  }

  own(name: string, close: () => unknown): void {
    this.#open.push({ name, close });
  }

  close(): Promise<void> {
    this.#closing ??= this.#closeAll();
    return this.#closing;
  }

  async #closeAll(): Promise<void> {
    this.#ended.abort(new Error('the room is closing'));
    const failures: unknown[] = [];
    for (const { name, close } of this.#open.toReversed()) {
      try {
        await close();
      } catch (error) {
        failures.push(new Error(`closing ${name}`, { cause: error }));
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, 'some things would not close');
  }
}
