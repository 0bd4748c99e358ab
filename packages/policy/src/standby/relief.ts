/**
 * What to do for a host that runs short of memory: who is paged out, or stored, before its time. One at a time, and then the host is looked at again: what
 * one gives back is known only afterwards.
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
  /** What its wake from where it would sleep then may be expected to take; absent: none was measured yet. */
  readonly leanWakeMs?: number | undefined;
  readonly storedWakeMs?: number | undefined;
  /** It was tried not long ago, in vain. */
  readonly leanFailed: boolean;
  readonly storeFailed: boolean;
}

export type Relief =
  | { readonly kind: 'none' }
  | { readonly kind: 'lean'; readonly instanceId: InstanceId }
  | { readonly kind: 'store'; readonly instanceId: InstanceId };

/** Below the first share of free memory sleepers are paged out, below the second they are stored as well. */
const SHORT = 0.15;
const SCARCE = 0.07;
/** More waiting than this is shortage too, whatever seems to be free. */
const PRESSURE = 0.1;

export function relieve(host: HostMemory, sleepers: readonly Slumber[], nowMs: number): Relief {
  const free = host.memoryFreeMib / host.memoryMib;
  if (free >= SHORT && host.memoryPressure < PRESSURE) return { kind: 'none' };
  if (host.pagesOut) {
    const inRam = sleepers.filter(({ depth, leanFailed }) => depth === 'paused' && !leanFailed);
    const first = coldest(inRam, 'leanWakeMs', nowMs);
    if (first) return { kind: 'lean', instanceId: first.instanceId };
  }
  if (free >= SCARCE) return { kind: 'none' };
  const next = coldest(
    sleepers.filter(({ storeFailed }) => !storeFailed),
    'storedWakeMs',
    nowMs,
  );
  return next ? { kind: 'store', instanceId: next.instanceId } : { kind: 'none' };
}

/**
 * Who has not been used for longest, roughly: among those whose idle times are of the same order (a factor of two), whoever is quickest to wake, since either
 * is as likely to be asked for next. One that nobody has measured comes after those that somebody has.
 */
function coldest(
  sleepers: readonly Slumber[],
  wake: 'leanWakeMs' | 'storedWakeMs',
  nowMs: number,
): Slumber | undefined {
  const order = ({ lastUsedAtMs }: Slumber) => Math.floor(Math.log2(Math.max(1_000, nowMs - lastUsedAtMs)));
  const wakeMs = (sleeper: Slumber) => sleeper[wake] ?? Number.MAX_VALUE;
  return sleepers.toSorted(
    (a, b) => order(b) - order(a) || wakeMs(a) - wakeMs(b) || a.lastUsedAtMs - b.lastUsedAtMs,
  )[0];
}
