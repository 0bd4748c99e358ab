/**
 * Who is paged out before its time for a host that runs short of memory. One at a time, and then the host is looked at again: what one gives back is known only
 * afterwards. Who is stored for it says `pressure.ts`.
 */
import type { InstanceId } from '@torpor/contracts';

export interface HostMemory {
  readonly memoryMib: number;
  readonly memoryFreeMib: number;
  /** Share of the last ten seconds, 0 to 1, in which somebody waited for memory. */
  readonly memoryPressure: number;
  /** Whether sandboxes may be paged out here. */
  readonly pagesOut: boolean;
}

/** The sleep of one with its process at hand. */
export interface Slumber {
  readonly instanceId: InstanceId;
  readonly depth: 'paused' | 'lean';
  readonly lastUsedAtMs: number;
  /** What its wake from there may be expected to take; absent: none was measured yet. */
  readonly leanWakeMs?: number | undefined;
  /** It was tried not long ago, in vain. */
  readonly leanFailed: boolean;
}

/** Of the memory, free. */
const SHORT = 0.15;
/** More waiting than this is shortage too, whatever seems to be free. */
const PRESSURE = 0.1;

/** `undefined`: nobody. */
export function relieve(host: HostMemory, sleepers: readonly Slumber[], nowMs: number): InstanceId | undefined {
  const free = host.memoryFreeMib / host.memoryMib;
  if (!host.pagesOut || (free >= SHORT && host.memoryPressure < PRESSURE)) return undefined;
  const inRam = sleepers.filter(({ depth, leanFailed }) => depth === 'paused' && !leanFailed);
  return coldest(inRam, nowMs)?.instanceId;
}

/**
 * Who has not been used for longest, roughly: among those whose idle times are of the same order (a factor of two), whoever is quickest to wake, since either
 * is as likely to be asked for next. One that nobody has measured comes after those that somebody has.
 */
function coldest(sleepers: readonly Slumber[], nowMs: number): Slumber | undefined {
  const order = ({ lastUsedAtMs }: Slumber) => Math.floor(Math.log2(Math.max(1_000, nowMs - lastUsedAtMs)));
  const wakeMs = ({ leanWakeMs }: Slumber) => leanWakeMs ?? Number.MAX_VALUE;
  return sleepers.toSorted(
    (a, b) => order(b) - order(a) || wakeMs(a) - wakeMs(b) || a.lastUsedAtMs - b.lastUsedAtMs,
  )[0];
}
