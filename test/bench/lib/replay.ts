/**
 * Replays the sleeps of one sandbox under a way to choose how deep it sleeps, and adds up what they cost and what their wakes took. Wakes and stores take what a
 * seeded chance says, about the medians that were measured (studies: gVisor, 2 cores); all ways see the same.
 */
import { seededChance } from '@torpor/kernel';
import { costOfWork, costPerMs, DEFAULT_PRICES, sandboxDepths, type Outlook, type SleepTier } from '@torpor/policy';
import { logNormal, type Used } from './uses.ts';

/** Sleeps begin so long after the last use: Blaxel's default. */
const IDLE_MS = 15_000;
const KEPT = 20;
const MIB = 2 ** 20;

export interface Sleep {
  readonly sleptMs: number;
  /** What a wake would take from each tier, and its store. */
  readonly wakeMs: Readonly<Record<SleepTier, number>>;
  readonly storeMs: number;
}

export interface Tally {
  cost: number;
  readonly wakesMs: number[];
}

/** After how much sleep it is stored; `undefined`: never. `outlook` is what could be known by then, but for the sleeps, which a way learns by itself. */
export interface Way {
  storeAfterMs(sleep: Sleep, outlook: Omit<Outlook<SleepTier>, 'sleeps'>): number | undefined;
  woke(sleep: Sleep, tookMs: number): void;
}

export function sleepsOf({ name, ramMib, atMs }: Used): readonly Sleep[] {
  const chance = seededChance([...name].reduce((sum, sign) => (sum * 31 + sign.charCodeAt(0)) % 1e9, 7));
  return atMs.flatMap((at, index) => {
    const before = atMs[index - 1];
    if (before === undefined || at - before <= IDLE_MS) return [];
    return {
      sleptMs: at - before - IDLE_MS,
      wakeMs: { paused: logNormal(chance, 3, 0.4), stored: logNormal(chance, 110 + 0.55 * ramMib, 0.3) },
      storeMs: logNormal(chance, 150 + 2 * ramMib, 0.3),
    };
  });
}

export function replay(ramMib: number, sleeps: readonly Sleep[], way: Way): Tally {
  const wakesMs: Record<SleepTier, number[]> = { paused: [], stored: [] };
  const storesMs: number[] = [];
  const tally: Tally = { cost: 0, wakesMs: [] };
  let imageBytes = 0;
  for (const sleep of sleeps) {
    const depths = sandboxDepths({ ramBytes: ramMib * MIB, imageBytes, wakesMs, storesMs });
    const dueMs = way.storeAfterMs(sleep, { depths, prices: DEFAULT_PRICES });
    const came = endOf(sleep, ramMib, dueMs, imageBytes);
    tally.cost += came.cost;
    tally.wakesMs.push(came.tookMs);
    push(wakesMs[came.tier], sleep.wakeMs[came.tier]);
    if (came.tier === 'stored') {
      push(storesMs, sleep.storeMs);
      imageBytes = ramMib * MIB;
    }
    way.woke(sleep, came.tookMs);
  }
  return tally;
}

/** A store that somebody comes into is worth nothing, and is waited for. */
export function endOf(
  { sleptMs, wakeMs, storeMs }: Sleep,
  ramMib: number,
  dueMs: number | undefined,
  imageBytes: number,
): { readonly tier: SleepTier; readonly cost: number; readonly tookMs: number } {
  const prices = DEFAULT_PRICES;
  const inRam = costPerMs({ ramBytes: ramMib * MIB, diskBytes: imageBytes }, prices);
  const onDisk = costPerMs({ ramBytes: 0, diskBytes: ramMib * MIB }, prices);
  const wake = (ms: number) => ms * inRam + costOfWork(ms, prices);
  if (dueMs === undefined || dueMs > sleptMs) {
    return { tier: 'paused', cost: sleptMs * inRam + wake(wakeMs.paused), tookMs: wakeMs.paused };
  }
  const storing = Math.min(storeMs, sleptMs - dueMs);
  const cost = (dueMs + storing) * inRam + costOfWork(storeMs, prices);
  if (storing < storeMs) {
    return { tier: 'paused', cost: cost + wake(wakeMs.paused), tookMs: storeMs - storing + wakeMs.paused };
  }
  const slept = (sleptMs - dueMs - storing) * onDisk;
  return { tier: 'stored', cost: cost + slept + wake(wakeMs.stored), tookMs: wakeMs.stored };
}

function push(all: number[], one: number): void {
  all.push(one);
  if (all.length > KEPT) all.shift();
}
