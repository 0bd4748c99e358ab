/**
 * What is known of how one instance sleeps: how long, what its wakes took, what it holds of the host. From this it is planned how deep it sleeps and after
 * how long (`policy/standby/depths.ts`), and told what that costs. What is worth it outlives a restart in the instance's hint.
 */
import type { SleepOutlook, WakeBudget } from '@torpor/contracts';
import {
  allowance,
  costPerHour,
  medianMs,
  p99Ms,
  planSleep,
  sandboxDepths,
  withSleep,
  type Outlook,
  type Plan,
  type Prices,
  type Sleeps,
  type SleepTier,
} from '@torpor/policy';
import { z } from 'zod';
import type { Times } from './times.ts';

/** A wake counts beside the next one about as a sleep does: some 256 of them tell whether a budget is kept. */
const FADES = 1 - 1 / 256;

export const SleepNote = z.object({
  sleeps: z.array(z.number()),
  /** Wakes under the budget that it has now, and those of them that took longer; older ones count less. */
  wakes: z.number(),
  over: z.number(),
  ramBytes: z.number().optional(),
  /** While it sleeps: since when. */
  sinceMs: z.number().optional(),
});
export type SleepNote = z.infer<typeof SleepNote>;

/** What the instance measures besides. */
export interface Measured {
  readonly wakes: Readonly<Record<SleepTier, Times>>;
  readonly stores: Times;
  /** What its images take on the disk together. */
  readonly imageBytes: number;
  /** Its host has swap that it may be paged out to. */
  readonly pagesOut: boolean;
}

export class SleepBook {
  readonly #prices: Prices;
  #sleeps: Sleeps;
  #spent: { readonly wakes: number; readonly over: number };
  #ramBytes: number | undefined;
  /** Since when it sleeps, ms since the epoch. */
  #sinceMs: number | undefined;
  /** When somebody first needed the sleeper awake, of the monotonic clock. */
  #askedMs: number | undefined;
  #plan: Plan<SleepTier> | undefined;

  constructor(prices: Prices, note: SleepNote | undefined) {
    this.#prices = prices;
    this.#sleeps = note?.sleeps ?? [];
    this.#spent = { wakes: note?.wakes ?? 0, over: note?.over ?? 0 };
    this.#ramBytes = note?.ramBytes;
    this.#sinceMs = note?.sinceMs;
  }

  note(): SleepNote {
    return {
      sleeps: [...this.#sleeps],
      ...this.#spent,
      ...(this.#ramBytes === undefined ? {} : { ramBytes: this.#ramBytes }),
      ...(this.#sinceMs === undefined ? {} : { sinceMs: this.#sinceMs }),
    };
  }

  /** Since when it sleeps, ms since the epoch; `undefined` while it is awake. */
  get sinceMs(): number | undefined {
    return this.#sinceMs;
  }

  fellAsleep(nowMs: number): void {
    this.#sinceMs ??= nowMs;
    this.#plan = undefined;
  }

  /** What it holds in RAM, as its host said when it had fallen asleep. */
  weighed(ramBytes: number): void {
    if (ramBytes !== this.#ramBytes) this.#plan = undefined;
    this.#ramBytes = ramBytes;
  }

  /** Somebody needs it awake, whatever is done to it just now. */
  asked(monotonicMs: number): void {
    this.#askedMs ??= monotonicMs;
  }

  /** Whoever needed it awake went away, or was turned away. */
  unasked(): void {
    this.#askedMs = undefined;
  }

  woke(now: { readonly nowMs: number; readonly monotonicMs: number }, budget: WakeBudget | undefined): void {
    const [askedMs, sinceMs] = [this.#askedMs, this.#sinceMs];
    this.#askedMs = undefined;
    this.#sinceMs = undefined;
    if (askedMs === undefined) return; // a lease's end woke it, not a use
    const tookMs = now.monotonicMs - askedMs;
    this.#sleeps = withSleep(this.#sleeps, sinceMs === undefined ? 0 : Math.max(0, now.nowMs - tookMs - sinceMs));
    const isOver = budget?.kind === 'p99' && tookMs > budget.ms;
    this.#spent = { wakes: this.#spent.wakes * FADES + 1, over: this.#spent.over * FADES + (isOver ? 1 : 0) };
  }

  /** What was measured was measured under the old one. */
  budgetChanged(): void {
    this.#spent = { wakes: 0, over: 0 };
    this.#plan = undefined;
  }

  /** After how much sleep it goes there; `undefined`: not by itself. Thought out once for each sleep. */
  dueMs(tier: SleepTier, budget: WakeBudget, measured: Measured): number | undefined {
    this.#plan ??= this.#planOf(budget, measured);
    return this.#plan.steps.find((step) => step.tier === tier)?.afterMs;
  }

  #planOf(budget: WakeBudget, measured: Measured): Plan<SleepTier> {
    return planSleep(this.#outlook(measured), budget, allowance(this.#spent));
  }

  #outlook({ wakes: { paused, lean, stored }, stores, imageBytes, pagesOut }: Measured): Outlook<SleepTier> {
    const wakesMs = { paused: paused.measuredMs, lean: lean.measuredMs, stored: stored.measuredMs };
    const sleeper = { ramBytes: this.#ramBytes, imageBytes, pagesOut, wakesMs, storesMs: stores.measuredMs };
    const depths = sandboxDepths(sleeper);
    return { depths, sleeps: this.#sleeps, prices: this.#prices };
  }

  /** `fixed`: after how long it goes to a tier where it has no budget. */
  report(
    budget: WakeBudget | undefined,
    measured: Measured,
    fixed: (tier: SleepTier) => number | undefined,
  ): SleepOutlook {
    const outlook = this.#outlook(measured);
    const plan = budget && (this.#plan ?? this.#planOf(budget, measured));
    const tiers = outlook.depths.map(({ tier, ramBytes, diskBytes, wake }) => {
      const afterMs = plan ? plan.steps.find((step) => step.tier === tier)?.afterMs : fixed(tier);
      return {
        tier,
        ramBytes,
        diskBytes,
        costPerHour: costPerHour({ ramBytes, diskBytes }, this.#prices),
        wakeP50Ms: medianMs(wake),
        wakeP99Ms: p99Ms(wake),
        measured: measured.wakes[tier].measuredMs.length,
        ...(tier === 'paused' ? { afterMs: 0 } : afterMs === undefined ? {} : { afterMs }),
      };
    });
    if (!plan) return { tiers };
    return { tiers, budget: { ...this.#spent, expectedOver: plan.overShare, isPromised: plan.isKept } };
  }
}
