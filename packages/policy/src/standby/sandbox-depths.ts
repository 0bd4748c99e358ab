/**
 * The depths of a sandbox, from what is known of one. What was never measured is supposed, from the studies (gVisor, 2 cores): a wake from RAM, and of an
 * image by the MiB that it holds. Supposed figures stand for a first choice, not for a promise; two measurements count as much.
 */
import type { Depth } from './depths.ts';
import { predictMs } from './predict.ts';
import { wakeTimeOf } from './wake-time.ts';

/** The tiers that a sandbox goes to by itself, the shallowest first. */
export type SleepTier = 'paused' | 'stored';

export interface Sleeper {
  /** What it holds in RAM while it sleeps there; `undefined`: nobody has looked yet. */
  readonly ramBytes: number | undefined;
  /** What its images take on the disk now. */
  readonly imageBytes: number;
  /** The oldest first. */
  readonly wakesMs: Readonly<Record<SleepTier, readonly number[]>>;
  readonly storesMs: readonly number[];
}

const MIB = 2 ** 20;
const SUPPOSED_RAM_BYTES = 64 * MIB;
const PAUSED_WAKE = { medianMs: 4, spread: 0.5 };

export function sandboxDepths(sleeper: Sleeper): readonly [Depth<SleepTier>, ...Depth<SleepTier>[]] {
  const { ramBytes = SUPPOSED_RAM_BYTES, imageBytes, wakesMs, storesMs } = sleeper;
  const ramMib = ramBytes / MIB;
  return [
    {
      tier: 'paused',
      ramBytes,
      diskBytes: imageBytes,
      enterMs: 0,
      wake: wakeTimeOf(wakesMs.paused, PAUSED_WAKE),
    },
    {
      tier: 'stored',
      ramBytes: 0,
      diskBytes: imageBytes > 0 ? imageBytes : ramBytes,
      enterMs: predictMs(storesMs) ?? 200 + 2.5 * ramMib,
      wake: wakeTimeOf(wakesMs.stored, { medianMs: 150 + 0.6 * ramMib, spread: 0.35 }),
    },
  ];
}
