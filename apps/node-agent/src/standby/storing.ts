/** Storing, letting go and restoring, as the table asks for them: each says how it ended; what follows from that is the table's. */
import { explain, withDeadline } from '@torpor/kernel';
import type { StoreFacts } from '@torpor/runtime';
import { restoreOnHost, type CameBack } from '../images/restore.ts';
import { GaveWay, releaseOnHost, storeOnHost, type Sleeper } from '../images/store.ts';
import { retryPause } from '../life/destroy.ts';
import type { Body, Parts } from '../parts.ts';
import type { Vitals } from './vitals.ts';

/** The first wait after a store that failed; each further one is twice as long. */
const RETRY_MS = 60_000;
const RETRY_MS_MAX = 3_600_000;
const PAUSE_MS = 10_000;
const MIB = 1 << 20;

export type Stored =
  | { readonly kind: 'done'; readonly tookMs: number; readonly facts: Partial<StoreFacts> }
  | { readonly kind: 'cut'; readonly tookMs: number }
  | { readonly kind: 'failed'; readonly tookMs: number; readonly reason: string };

export class Storing {
  readonly #parts: Parts;
  readonly #vitals: Vitals;
  #giveWay = new AbortController();
  #isUnderWay = false;
  /** Stores, and then releases, that failed in a row. */
  #troubles = 0;
  #reluctantUntilMs = 0;

  constructor(parts: Parts, vitals: Vitals) {
    this.#parts = parts;
    this.#vitals = vitals;
  }

  /** Somebody waits for the sandbox. */
  giveWay(): void {
    this.#giveWay.abort();
  }

  async store(sleeper: Sleeper): Promise<Stored> {
    const { clock } = this.#parts;
    const sinceMs = clock.monotonicMs();
    const took = () => clock.monotonicMs() - sinceMs;
    try {
      const facts = await this.#store(sleeper);
      this.#troubles = 0;
      return { kind: 'done', tookMs: took(), facts };
    } catch (error) {
      if (error instanceof GaveWay) return { kind: 'cut', tookMs: took() };
      this.#troubles++;
      this.#reluctantUntilMs = clock.monotonicMs() + this.dueAfterMs(RETRY_MS);
      const isGone = await this.#vitals.isGone();
      const reason = isGone ? explain(error) : await this.#asleepAfter(error, sleeper);
      return { kind: 'failed', tookMs: took(), reason };
    }
  }

  /** hostd dies in the middle of a save, and the sandbox is left paused but thawed: its timers would run on. Answers what is to be said. */
  async #asleepAfter(error: unknown, { hostId }: Sleeper): Promise<string> {
    const { driver, clock } = this.#parts;
    try {
      await withDeadline({ name: 'pause after a store', ms: PAUSE_MS, clock }, () => driver.pause(hostId));
      return explain(error);
    } catch (second) {
      return `${explain(error)}; and it could not be frozen again: ${explain(second)}`;
    }
  }

  /** Its end says what a death meanwhile means: the image may hold all of it. */
  get isUnderWay(): boolean {
    return this.#isUnderWay;
  }

  async #store(sleeper: Sleeper): Promise<Partial<StoreFacts>> {
    this.#isUnderWay = true;
    try {
      // A save that hostd's death cut short, while no node-agent ran, has left it thawed.
      await this.#parts.driver.pause(sleeper.hostId);
      return await storeOnHost(this.#parts, sleeper, this.#giveWay.signal);
    } finally {
      this.#isUnderWay = false;
    }
  }

  /** Must be called before the table's `store` begins, so that a wake that comes before it does is heard. */
  begin(): void {
    this.#giveWay = new AbortController();
  }

  async release(sleeper: Sleeper, isAwaited: () => boolean): Promise<Stored | { kind: 'carried over' }> {
    const { clock, closing } = this.#parts;
    if (this.#troubles > 0) await retryPause(this.#parts, this.#troubles);
    if (closing.aborted) return { kind: 'carried over' }; // by the journal
    const sinceMs = clock.monotonicMs();
    try {
      const done = await releaseOnHost(this.#parts, sleeper, isAwaited);
      this.#troubles = 0;
      return { kind: done ? 'done' : 'cut', tookMs: clock.monotonicMs() - sinceMs, facts: {} };
    } catch (error) {
      this.#troubles++;
      return { kind: 'failed', tookMs: clock.monotonicMs() - sinceMs, reason: explain(error) };
    }
  }

  /** Waits where there is no room for its memory, or is refused: nothing that runs is to be killed for it. */
  async restore(body: Body, sleeper: Sleeper): Promise<CameBack> {
    const { restores, admission, closing } = this.#parts;
    const { memoryBytes = 0 } = sleeper.shelving.shelf.images.at(-1) ?? {};
    const coming = await admission.admitWake(memoryBytes / MIB, closing);
    try {
      return await restores.run((passOn) => restoreOnHost(this.#parts, body, sleeper, passOn), closing);
    } finally {
      coming.arrived();
    }
  }

  /** The last store came to nothing: another so soon would too. */
  get isReluctant(): boolean {
    return this.#parts.clock.monotonicMs() < this.#reluctantUntilMs;
  }

  /** How long to sleep in RAM before it is tried: `afterMs`, and longer when it failed. */
  dueAfterMs(afterMs: number): number {
    if (this.#troubles === 0) return afterMs;
    return Math.min(RETRY_MS * 2 ** (this.#troubles - 1), RETRY_MS_MAX);
  }
}
