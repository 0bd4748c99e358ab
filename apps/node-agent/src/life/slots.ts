import type { InstanceId } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';

const SLOTS_MAX = 16_384;

/** Small numbers, each given to one instance of the node at a time: names and addresses on the host derive from them. */
export class Slots {
  readonly #owners = new Map<number, InstanceId>();

  take(hostId: InstanceId): number {
    for (let slot = 0; slot < SLOTS_MAX; slot++) {
      if (this.#owners.has(slot)) continue;
      this.#owners.set(slot, hostId);
      return slot;
    }
    throw new Failure('no_capacity', `all ${SLOTS_MAX} slots of this node are taken`, {
      retryable: true,
      retryAfterS: 30,
    });
  }

  /** Found in use after a restart. */
  keep(slot: number, hostId: InstanceId): void {
    this.#owners.set(slot, hostId);
  }

  holds(hostId: InstanceId): boolean {
    return [...this.#owners.values()].includes(hostId);
  }

  /** Given back once: whoever has it by then keeps it. */
  free(slot: number, hostId: InstanceId): void {
    if (this.#owners.get(slot) === hostId) this.#owners.delete(slot);
  }

  get freeCount(): number {
    return SLOTS_MAX - this.#owners.size;
  }
}
