/**
 * The depths of a sandbox, from what is known of one. What was never measured is supposed, from the studies (gVisor, 2 cores): a wake from RAM, and of an
 * image by the MiB that it holds. Supposed figures stand for a first choice, not for a promise; two measurements count as much.
 */
import type { Depth } from './depths.ts';
import { predictMs } from './predict.ts';
import { wakeTimeOf } from './wake-time.ts';

/** The tiers that a sandbox goes to by itself, the shallowest first. */
export type SleepTier = 'paused' | 'lean' | 'stored';

export interface Sleeper {
  /** What it holds in RAM while it sleeps there; `undefined`: nobody has looked yet. */
  readonly ramBytes: number | undefined;
  /** What its images take on the disk now. */
  readonly imageBytes: number;
  /** Its host has swap that it may be paged out to: without, it is never lean. */
  readonly pagesOut: boolean;
  /** The oldest first. */
  readonly wakesMs: Readonly<Record<SleepTier, readonly number[]>>;
  readonly storesMs: readonly number[];
}

const MIB = 2 ** 20;
const SUPPOSED_RAM_BYTES = 64 * MIB;
const PAUSED_WAKE = { medianMs: 4, spread: 0.5 };
/** Measured of 300 MB: 26 MB are left, and a wake takes 3.9, 5.7 or 16.8 ms. */
const LEAN_WAKE = { medianMs: 8, spread: 0.5 };
const LEAN_RAM = { bytes: 14 * MIB, share: 0.04 };

export function sandboxDepths(sleeper: Sleeper): readonly [Depth<SleepTier>, ...Depth<SleepTier>[]] {
  const { ramBytes = SUPPOSED_RAM_BYTES, imageBytes, pagesOut, wakesMs, storesMs } = sleeper;
  const leanBytes = Math.min(ramBytes, LEAN_RAM.bytes + LEAN_RAM.share * ramBytes);
  const ramMib = ramBytes / MIB;
  const lean: Depth<SleepTier> = {
    tier: 'lean',
    ramBytes: leanBytes,
    diskBytes: imageBytes + ramBytes - leanBytes,
    enterMs: 100 + 2 * ramMib,
    wake: wakeTimeOf(wakesMs.lean, LEAN_WAKE),
  };
  return [
    {
      tier: 'paused',
      ramBytes,
      diskBytes: imageBytes,
      enterMs: 0,
      wake: wakeTimeOf(wakesMs.paused, PAUSED_WAKE),
    },
    ...(pagesOut ? [lean] : []),
    {
      tier: 'stored',
      ramBytes: 0,
      diskBytes: imageBytes > 0 ? imageBytes : ramBytes,
      enterMs: predictMs(storesMs) ?? 200 + 2.5 * ramMib,
      wake: wakeTimeOf(wakesMs.stored, { medianMs: 150 + 0.6 * ramMib, spread: 0.35 }),
    },
  ];
}
