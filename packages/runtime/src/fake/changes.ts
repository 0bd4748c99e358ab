/** Lets many wait for the next change of something. */
export class Changes {
  #next = Promise.withResolvers<void>();

  next(): Promise<void> {
    return this.#next.promise;
  }

  announce(): void {
    const before = this.#next;
    this.#next = Promise.withResolvers<void>();
    before.resolve();
  }
}
