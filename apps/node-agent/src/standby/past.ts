/** What has been seen of an instance and is worth knowing beyond its state: how long its wakes took, what it lost, who had it stored. Kept in its hint. */
import type { InstanceReport, Loss, WakeTier } from '@torpor/contracts';
import type { Census } from '@torpor/policy';
import type { Hint } from '../journal/index.ts';
import { Times } from './times.ts';

export class Past {
  readonly wakes: Readonly<Record<WakeTier, Times>>;
  readonly stores: Times;
  /** Somebody asked for it to be stored, and nobody has used it since. */
  storeAsked: boolean;
  /** Its memory is in swap. */
  isLean: boolean;
  /** What ran and listened just before it fell asleep; `undefined` while it runs, and when nobody could say. */
  census: Census | undefined;
  #lost: Loss | undefined;
  #lastWakeLost: Loss | undefined;

  constructor(hint: Hint | undefined) {
    const { paused, lean, stored, files } = hint ?? {};
    this.wakes = {
      paused: new Times(paused),
      lean: new Times(lean),
      stored: new Times(stored),
      files: new Times(files),
    };
    this.stores = new Times(hint?.stores);
    this.storeAsked = hint?.storeAsked ?? false;
    this.isLean = hint?.isLean ?? false;
    this.census = hint?.census;
    this.#lost = hint?.lost;
  }

  /** What the wake that ended last did not bring back. */
  get lastWakeLost(): Loss | undefined {
    return this.#lastWakeLost;
  }

  woke(tier: WakeTier, tookMs: number, lost?: Loss): void {
    this.wakes[tier].add(tookMs);
    this.storeAsked = false;
    this.#lastWakeLost = lost;
    this.#lost = lost ?? this.#lost;
  }

  hint(lastUsedAtMs: number): Hint {
    const { paused, lean, stored, files } = this.wakes;
    return {
      lastUsedAtMs,
      paused: [...paused.measuredMs],
      lean: [...lean.measuredMs],
      stored: [...stored.measuredMs],
      files: [...files.measuredMs],
      stores: [...this.stores.measuredMs],
      storeAsked: this.storeAsked,
      isLean: this.isLean,
      ...(this.#lost ? { lost: this.#lost } : {}),
      ...(this.census ? { census: this.census } : {}),
    };
  }

  report(): Pick<InstanceReport, 'wakes' | 'storeMs' | 'storeAsked' | 'lost'> {
    const { paused, lean, stored, files } = this.wakes;
    const storeMs = this.stores.predictedMs;
    return {
      wakes: {
        ...(paused.record ? { paused: paused.record } : {}),
        ...(lean.record ? { lean: lean.record } : {}),
        ...(stored.record ? { stored: stored.record } : {}),
        ...(files.record ? { files: files.record } : {}),
      },
      ...(storeMs === undefined ? {} : { storeMs }),
      ...(this.storeAsked ? { storeAsked: true } : {}),
      ...(this.#lost ? { lost: this.#lost } : {}),
    };
  }
}
