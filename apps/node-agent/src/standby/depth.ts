/** When one that sleeps with its process at hand is to sleep deeper, and what it is to a host that wants its RAM. */
import type { InstanceId, SleepOutlook } from '@torpor/contracts';
import { restsInRam, type PressedSleeper, type SleepTier, type Slumber, type StandbyState } from '@torpor/policy';
import type { SleepPolicy } from '../journal/index.ts';
import type { Parts } from '../parts.ts';
import { Due } from './due.ts';
import type { Leaning } from './leaning.ts';
import type { Past } from './past.ts';
import type { SleepBook } from './sleep-book.ts';
import type { Storing } from './storing.ts';
import type { Uses } from './uses.ts';

/** From disk. */
const UNMEASURED_WAKE_MS = 300;

/** The instance whose depth it is. */
interface Of {
  id(): InstanceId;
  hostId(): InstanceId;
  state(): StandbyState;
  policy(): SleepPolicy;
  imageBytes(): number;
  happen(what: 'lean-due' | 'store-due'): void;
  readonly past: Past;
  readonly uses: Uses;
  readonly book: SleepBook;
  readonly leaning: Leaning;
  readonly storing: Storing;
}

export class Depth {
  readonly #parts: Parts;
  readonly #of: Of;
  readonly #leanDue: Due;
  readonly #storeDue: Due;

  constructor(parts: Parts, of: Of) {
    this.#parts = parts;
    this.#of = of;
    this.#leanDue = new Due(parts, () => of.happen('lean-due'));
    this.#storeDue = new Due(parts, () => of.happen('store-due'));
  }

  /** Waits for the instants at which it is to sleep deeper. */
  follow(before: StandbyState, after: StandbyState): void {
    if (after === 'paused' && before === 'pausing' && this.#of.policy().wakeBudget) this.#weigh();
    if (restsInRam(after) && !restsInRam(before)) this.#awaitStore();
    if (!restsInRam(after)) this.#storeDue.stop();
    if (after === 'paused' && before !== 'paused') this.#awaitLean();
    if (after !== 'paused') this.#leanDue.stop();
  }

  /** Its plan is another. */
  anew(): void {
    if (restsInRam(this.#of.state())) this.#awaitStore();
    if (this.#of.state() === 'paused') this.#awaitLean();
  }

  stop(): void {
    this.#leanDue.stop();
    this.#storeDue.stop();
  }

  /** What sleeping costs it, and how it keeps its budget. `memoryMib`: what it holds now, when its host could say. */
  outlook(memoryMib?: number): SleepOutlook {
    const { book, policy, state } = this.#of;
    if (state() === 'paused' && memoryMib !== undefined) book.weighed(memoryMib * 2 ** 20);
    return book.report(policy().wakeBudget, this.#measured, (tier) => this.#fixedMs(tier));
  }

  /** What it is to a host that runs short of memory. `undefined`: nothing is to be had of it at once. */
  get slumber(): Slumber | undefined {
    const { id, state, past, uses, leaning } = this.#of;
    const depth = state();
    if (depth !== 'paused' && depth !== 'lean') return undefined;
    return {
      instanceId: id(),
      depth,
      lastUsedAtMs: uses.lastUsedAtMs,
      leanWakeMs: past.wakes.lean.predictedMs,
      leanFailed: leaning.isReluctant,
    };
  }

  /** It sleeps in RAM, and nothing speaks against an image of it. */
  get isStorable(): boolean {
    const state = this.#of.state();
    return (state === 'paused' || state === 'lean') && !this.#of.storing.isReluctant;
  }

  /** What its host goes by when it wants room for those that wake. */
  underPressure(): Omit<PressedSleeper, 'ramMib'> {
    const { past, uses, policy } = this.#of;
    const dueMs = policy().wakeBudget ? this.#dueMs('stored') : 0;
    return {
      lastUsedAtMs: uses.lastUsedAtMs,
      wakeMs: past.wakes.stored.predictedMs ?? UNMEASURED_WAKE_MS,
      isPromised: dueMs === undefined || dueMs > 0,
    };
  }

  #awaitStore(): void {
    const dueMs = this.#dueMs('stored');
    if (dueMs === undefined) this.#storeDue.stop();
    else this.#storeDue.after(this.#of.storing.dueAfterMs(dueMs));
  }

  #awaitLean(): void {
    const dueMs = this.#dueMs('lean');
    if (dueMs === undefined) this.#leanDue.stop();
    else this.#leanDue.after(this.#of.leaning.dueAfterMs(dueMs));
  }

  /** How long from now on it sleeps on before it goes there; `undefined`: not by itself. */
  #dueMs(tier: SleepTier): number | undefined {
    const { book, policy } = this.#of;
    const { wakeBudget } = policy();
    const nowMs = this.#parts.clock.nowMs();
    const afterMs = wakeBudget ? book.dueMs(tier, wakeBudget, this.#measured) : this.#fixedMs(tier);
    return afterMs === undefined ? undefined : Math.max(0, afterMs - (nowMs - (book.sinceMs ?? nowMs)));
  }

  /** Where it has no wake budget. */
  #fixedMs(tier: SleepTier): number | undefined {
    const { leanAfterMs, storeAfterMs } = this.#parts;
    const afterMs = tier === 'lean' ? leanAfterMs : tier === 'stored' ? storeAfterMs : 0;
    return afterMs > 0 ? afterMs : undefined;
  }

  get #measured() {
    const pagesOut = this.#parts.admission.pagesOut(this.#parts.swap);
    const { past, imageBytes } = this.#of;
    return { wakes: past.wakes, stores: past.stores, imageBytes: imageBytes(), pagesOut };
  }

  /** What it holds in RAM, which its plan goes by, is asked of the host beside everything else: a wake does not wait for that. */
  #weigh(): void {
    const hostId = this.#of.hostId();
    const weigh = async () => {
      const memoryMib = (await this.#parts.driver.usage([hostId])).get(hostId)?.memoryMib;
      if (memoryMib === undefined || this.#of.state() !== 'paused') return;
      this.#of.book.weighed(memoryMib * 2 ** 20);
      this.anew();
    };
    weigh().catch(() => {}); // a host that cannot say is asked again at the next sleep
  }
}
