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

/** Whether there is room for one more, or for one that wakes from the disk, from the last look at the host. */
export class Admission {
  readonly #driver: InstanceDriver;
  readonly #clock: Clock;
  readonly #watermarks: Watermarks;
  #seen: { capacity: DriverCapacity; atMs: number } | undefined;
  #looking: Promise<DriverCapacity> | undefined;
  /** What those who were admitted since then are reckoned to take. */
  #reckonedMib = 0;

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
        this.#reckonedMib = 0;
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
    await this.#lookAgain();
    refuse(this.#lack({ mib: mib - INSTANCE_MIB }));
    this.#reckonedMib += mib;
  }

  /** The same for a wake that brings so much memory back from the disk. Space there it has already. */
  async admitWake(memoryMib: number): Promise<void> {
    await this.#lookAgain();
    refuse(this.#lackOfMemory(memoryMib));
    this.#reckonedMib += INSTANCE_MIB + memoryMib;
  }

  async #lookAgain(): Promise<void> {
    if (!this.#seen || this.#clock.monotonicMs() - this.#seen.atMs > STALE_MS) await this.look();
  }

  /** For the background: whether pools may be refilled, by what was seen last, at twice the watermark. */
  hasAmple(): boolean {
    return this.#seen === undefined || this.#lack({ factor: 2 }) === undefined;
  }

  #lack({ factor = 1, mib = 0 }: { factor?: number; mib?: number }): string | undefined {
    if (!this.#seen) return undefined;
    const lackOfMemory = this.#lackOfMemory(mib, factor);
    if (lackOfMemory) return lackOfMemory;
    const { diskFreeMib } = this.#seen.capacity;
    if (diskFreeMib < this.#watermarks.diskFreeMib * factor) {
      return `${Math.round(diskFreeMib)} MiB of disk are free, ${this.#watermarks.diskFreeMib} are kept`;
    }
    return undefined;
  }

  #lackOfMemory(wantedMib: number, factor = 1): string | undefined {
    if (!this.#seen) return undefined;
    const freeMib = this.#seen.capacity.memoryFreeMib - this.#reckonedMib;
    if (freeMib - wantedMib >= this.#watermarks.memoryFreeMib * factor) return undefined;
    const wanted = wantedMib > 0 ? `${Math.round(wantedMib)} are wanted, ` : '';
    return `${Math.round(freeMib)} MiB of memory are free, ${wanted}${this.#watermarks.memoryFreeMib} are kept`;
  }
}

function refuse(lack: string | undefined): void {
  if (lack) throw new Failure('no_capacity', `this node is full: ${lack}`, { retryable: true, retryAfterS: 5 });
}
