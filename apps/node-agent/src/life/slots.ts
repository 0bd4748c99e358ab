import { Failure } from '@torpor/kernel';

const SLOTS_MAX = 16_384;

/** Small numbers, each given to one instance of the node at a time: names and addresses on the host derive from them. */
export class Slots {
  readonly #taken = new Set<number>();

  take(): number {
    for (let slot = 0; slot < SLOTS_MAX; slot++) {
      if (this.#taken.has(slot)) continue;
      this.#taken.add(slot);
      return slot;
    }
    throw new Failure('no_capacity', `all ${SLOTS_MAX} slots of this node are taken`, {
      retryable: true,
      retryAfterS: 30,
    });
  }

  /** Found in use after a restart. */
  keep(slot: number): void {
    this.#taken.add(slot);
  }

  free(slot: number): void {
    this.#taken.delete(slot);
  }

  get freeCount(): number {
    return SLOTS_MAX - this.#taken.size;
  }
}
