/** Operations on one instance go one after another; the first in line begins at once, in the same turn of the loop. */
export class Line {
  #last: Promise<void> = Promise.resolve();
  #length = 0;

  run(work: () => Promise<void>): Promise<void> {
    this.#length++;
    const mine = this.#length === 1 ? work() : this.#last.then(work);
    const over = () => void this.#length--;
    this.#last = mine.then(over, over);
    return mine;
  }

  /** Resolves when the operation that is last in line now has ended, however it did. */
  get settled(): Promise<void> {
    return this.#last;
  }
}
