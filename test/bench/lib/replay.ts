/**
 * Replays the sleeps of one sandbox under a way to choose how deep it sleeps, and adds up what they cost and what their wakes took. Wakes and stores take what a
 * seeded chance says, about the medians that were measured (studies: gVisor, 2 cores); all ways see the same.
 */
import { seededChance } from '@torpor/kernel';
import {
  costOfWork,
  costPerMs,
  DEFAULT_PRICES,
  sandboxDepths,
  type Holds,
  type Outlook,
  type Plan,
  type SleepTier,
} from '@torpor/policy';
import { logNormal, type Used } from './uses.ts';

/** Sleeps begin so long after the last use: Blaxel's default. */
const IDLE_MS = 15_000;
const KEPT = 20;
const MIB = 2 ** 20;

export interface Sleep {
  readonly sleptMs: number;
  /** What a wake would take from each tier, and what going there takes. A wake cuts a page-out short, and waits for a store. */
  readonly wakeMs: Readonly<Record<SleepTier, number>>;
  readonly enterMs: Readonly<Record<SleepTier, number>>;
}

export interface Tally {
  cost: number;
  readonly wakesMs: number[];
}

export type Steps = Plan<SleepTier>['steps'];

/** After how much sleep it goes where. `outlook` is what could be known by then, but for the sleeps, which a way learns by itself. */
export interface Way {
  steps(outlook: Omit<Outlook<SleepTier>, 'sleeps'>): Steps;
  woke(sleep: Sleep, tookMs: number): void;
}

export function sleepsOf({ name, ramMib, atMs }: Used): readonly Sleep[] {
  const chance = seededChance([...name].reduce((sum, sign) => (sum * 31 + sign.charCodeAt(0)) % 1e9, 7));
  return atMs.flatMap((at, index) => {
    const before = atMs[index - 1];
    if (before === undefined || at - before <= IDLE_MS) return [];
    return {
      sleptMs: at - before - IDLE_MS,
      wakeMs: {
        paused: logNormal(chance, 3, 0.4),
        lean: logNormal(chance, 6, 0.5),
        stored: logNormal(chance, 110 + 0.55 * ramMib, 0.3),
      },
      enterMs: { paused: 0, lean: 50 + ramMib, stored: logNormal(chance, 150 + 2 * ramMib, 0.3) },
    };
  });
}

export function replay(used: Used, sleeps: readonly Sleep[], way: Way, pagesOut: boolean): Tally {
  const wakesMs: Record<SleepTier, number[]> = { paused: [], lean: [], stored: [] };
  const storesMs: number[] = [];
  const tally: Tally = { cost: 0, wakesMs: [] };
  let imageBytes = 0;
  for (const sleep of sleeps) {
    const ramBytes = used.ramMib * MIB;
    const depths = sandboxDepths({ ramBytes, imageBytes, pagesOut, wakesMs, storesMs });
    const came = endOf(sleep, used.ramMib, way.steps({ depths, prices: DEFAULT_PRICES }));
    tally.cost += came.cost;
    tally.wakesMs.push(came.tookMs);
    push(wakesMs[came.tier], sleep.wakeMs[came.tier]);
    if (came.tier === 'stored') {
      push(storesMs, sleep.enterMs.stored);
      imageBytes = ramBytes;
    }
    way.woke(sleep, came.tookMs);
  }
  return tally;
}

/** A depth that somebody comes into is worth nothing; a store is waited for. */
export function endOf({ sleptMs, wakeMs, enterMs }: Sleep, ramMib: number, steps: Steps) {
  const prices = DEFAULT_PRICES;
  const rate = (tier: SleepTier) => costPerMs(held(tier, ramMib), prices);
  let tier: SleepTier = 'paused';
  let [nowMs, cost, stallMs] = [0, 0, 0];
  for (const { tier: next, afterMs } of steps) {
    const beginsMs = Math.max(nowMs, afterMs);
    if (beginsMs >= sleptMs) break;
    const endsMs = beginsMs + enterMs[next];
    cost += (Math.min(endsMs, sleptMs) - nowMs) * rate(tier) + costOfWork(enterMs[next], prices);
    nowMs = Math.min(endsMs, sleptMs);
    if (endsMs > sleptMs) {
      stallMs = next === 'stored' ? endsMs - sleptMs : 0;
      break;
    }
    tier = next;
  }
  cost += (sleptMs - nowMs) * rate(tier) + wakeMs[tier] * rate('paused') + costOfWork(wakeMs[tier], prices);
  return { tier, cost, tookMs: stallMs + wakeMs[tier] };
}

/** Of a sandbox of so many MiB; lean, what was measured of 300 MB: 26 are left. */
function held(tier: SleepTier, ramMib: number): Holds {
  const ramBytes = ramMib * MIB;
  const leanBytes = 14 * MIB + 0.04 * ramBytes;
  switch (tier) {
    case 'paused':
      return { ramBytes, diskBytes: 0 };
    case 'lean':
      return { ramBytes: leanBytes, diskBytes: ramBytes - leanBytes };
    case 'stored':
      return { ramBytes: 0, diskBytes: ramBytes };
  }
}

function push(all: number[], one: number): void {
  all.push(one);
  if (all.length > KEPT) all.shift();
}
