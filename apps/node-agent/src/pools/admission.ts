import { Failure, type Clock } from '@torpor/kernel';
import type { DriverCapacity, InstanceDriver } from '@torpor/runtime';

/** What a new instance is reckoned to take until the next look at the host tells the truth. */
const INSTANCE_MIB = 48;
const STALE_MS = 1_000;

export interface Watermarks {
  /** Below these, creates are refused; the host keeps the rest for those who are here already. */
  readonly memoryFreeMib: number;
  readonly diskFreeMib: number;
}

/** Whether there is room for one more, from the last look at the host. */
export class Admission {
  readonly #driver: InstanceDriver;
  readonly #clock: Clock;
  readonly #watermarks: Watermarks;
  #seen: { capacity: DriverCapacity; atMs: number } | undefined;
  #looking: Promise<DriverCapacity> | undefined;
  /** What was admitted since the last look, MiB. */
  #since = 0;

  constructor(options: { driver: InstanceDriver; clock: Clock; watermarks: Watermarks }) {
    this.#driver = options.driver;
    this.#clock = options.clock;
    this.#watermarks = options.watermarks;
  }

  /** Looks at the host; those who ask at once share one look. */
  look(): Promise<DriverCapacity> {
    this.#looking ??= this.#driver.capacity().then(
      (capacity) => {
        this.#seen = { capacity, atMs: this.#clock.monotonicMs() };
        this.#since = 0;
        this.#looking = undefined;
        return capacity;
      },
      (error: unknown) => {
        this.#looking = undefined;
        throw error;
      },
    );
    return this.#looking;
  }

  /** Throws `no_capacity` when another instance, reckoned to take so much, would cross a watermark. Counts it otherwise. */
  async admit(mib: number = INSTANCE_MIB): Promise<void> {
    if (!this.#seen || this.#clock.monotonicMs() - this.#seen.atMs > STALE_MS) await this.look();
    const lack = this.#lack({ mib: mib - INSTANCE_MIB });
    if (lack) throw new Failure('no_capacity', `this node is full: ${lack}`, { retryable: true, retryAfterS: 5 });
    this.#since += mib;
  }

  /** For the background: whether pools may be refilled, by what was seen last, at twice the watermark. */
  hasAmple(): boolean {
    return this.#seen === undefined || this.#lack({ factor: 2 }) === undefined;
  }

  #lack({ factor = 1, mib = 0 }: { factor?: number; mib?: number }): string | undefined {
    if (!this.#seen) return undefined;
    const { memoryFreeMib, diskFreeMib } = this.#seen.capacity;
    const memory = memoryFreeMib - this.#since - mib;
    if (memory < this.#watermarks.memoryFreeMib * factor) {
      return `${Math.round(memory)} MiB of memory are free, ${this.#watermarks.memoryFreeMib} are kept`;
    }
    if (diskFreeMib < this.#watermarks.diskFreeMib * factor) {
      return `${Math.round(diskFreeMib)} MiB of disk are free, ${this.#watermarks.diskFreeMib} are kept`;
    }
    return undefined;
  }
}
