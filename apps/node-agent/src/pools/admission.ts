import type { SwapKind } from '@torpor/contracts';
import type { Clock } from '@torpor/kernel';
import { mayPageOut } from '@torpor/policy';
import type { DriverCapacity, InstanceDriver } from '@torpor/runtime';
import { full, WakeLine } from './wake-line.ts';

/** What a new instance is reckoned to take until the next look at the host tells the truth. */
const INSTANCE_MIB = 48;
const STALE_MS = 1_000;

export interface Watermarks {
  /** Below these, creates are refused; the host keeps the rest for those who are here already. */
  readonly memoryFreeMib: number;
  readonly diskFreeMib: number;
  /** So much more memory is held free for wakes from the disk: sleepers are stored before their time for it. Default none. */
  readonly headroomMib?: number;
}

/** Whether there is room for one more, or for one that wakes from the disk, from the last look at the host. */
export class Admission {
  readonly #driver: InstanceDriver;
  readonly #clock: Clock;
  readonly #watermarks: Watermarks;
  readonly #line: WakeLine;
  #seen: { capacity: DriverCapacity; atMs: number } | undefined;
  #looking: Promise<DriverCapacity> | undefined;
  /** What those who were admitted since then are reckoned to take. */
  #reckonedMib = 0;
  /** What is on its way from the disk: a look may see some of it, or none. */
  #comingMib = 0;

  constructor(options: { driver: InstanceDriver; clock: Clock; watermarks: Watermarks }) {
    this.#driver = options.driver;
    this.#clock = options.clock;
    this.#watermarks = options.watermarks;
    this.#line = new WakeLine(options.clock);
  }

  /** Looks at the host; those who ask at once share one look. */
  look(): Promise<DriverCapacity> {
    this.#looking ??= this.#driver.capacity().then(
      (capacity) => {
        this.#seen = { capacity, atMs: this.#clock.monotonicMs() };
        this.#reckonedMib = 0;
        this.#looking = undefined;
        this.#line.serve((mib) => this.#take(mib));
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
    const lack = this.#lack({ mib: mib - INSTANCE_MIB });
    if (lack) throw full(lack, 0);
    this.#reckonedMib += mib;
  }

  /**
   * The same for a wake that brings so much memory back from the disk; space there it has already. It waits for its turn where there is no room yet, and throws
   * `no_capacity` where that would take too long. `arrived` is to be called when the memory is there, or will not come.
   */
  async admitWake(memoryMib: number, closing: AbortSignal): Promise<{ arrived(): void }> {
    const mib = INSTANCE_MIB + memoryMib;
    await this.#lookAgain();
    if (this.#line.length > 0 || !this.#take(mib)) {
      const why = () => this.#lackOfMemory(mib) ?? `${this.#line.length} others wait for memory`;
      await this.#line.wait(mib, this.#line.mib + this.#lackMib(mib), why, closing);
    }
    let isOver = false;
    return {
      arrived: () => {
        if (isOver) return;
        isOver = true;
        this.#comingMib -= mib;
        this.#reckonedMib += mib;
      },
    };
  }

  /** Whether sandboxes may be paged out to what swap there is; by what was seen last. */
  pagesOut(kind: SwapKind): boolean {
    return this.#seen !== undefined && mayPageOut(kind, this.#seen.capacity.swap).kind === 'may';
  }

  /** A sleeper gave up so much, in so long: what those who wait go by. */
  freed(mib: number, tookMs: number): void {
    this.#line.freed(mib, tookMs);
  }

  /** Wakes wait for memory. */
  get isWaitedFor(): boolean {
    return this.#line.length > 0;
  }

  /** How much must come free for those who wait and for the headroom to be whole; negative: so much is to spare. By what was seen last. */
  get shortMib(): number {
    return this.#lackMib(this.#line.mib + (this.#watermarks.headroomMib ?? 0));
  }

  async #lookAgain(): Promise<void> {
    if (!this.#seen || this.#clock.monotonicMs() - this.#seen.atMs > STALE_MS) await this.look();
  }

  /** For the background: whether pools may be refilled, by what was seen last, at twice the watermark. */
  hasAmple(): boolean {
    return this.#seen === undefined || this.#lack({ factor: 2 }) === undefined;
  }

  #take(mib: number): boolean {
    if (this.#lackOfMemory(mib)) return false;
    this.#comingMib += mib;
    return true;
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
    if (this.#lackMib(wantedMib, factor) <= 0) return undefined;
    const wanted = wantedMib > 0 ? `${Math.round(wantedMib)} are wanted, ` : '';
    return `${Math.round(this.#freeMib)} MiB of memory are free, ${wanted}${this.#watermarks.memoryFreeMib} are kept`;
  }

  #lackMib(wantedMib: number, factor = 1): number {
    return this.#seen ? this.#watermarks.memoryFreeMib * factor + wantedMib - this.#freeMib : 0;
  }

  get #freeMib(): number {
    return (this.#seen?.capacity.memoryFreeMib ?? 0) - this.#reckonedMib - this.#comingMib;
  }
}
