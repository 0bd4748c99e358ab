/** Which snapshots go by themselves. Pure. Those that somebody asked for stay until somebody deletes them, unless the node is told otherwise. */
import type { Kept } from '../journal/index.ts';

/** Of one instance. Absent: no such limit. */
export interface SnapshotPolicy {
  /** How many of those that were made by themselves; at least one, which may be about to be used. */
  readonly automaticMax: number;
  readonly automaticMs?: number | undefined;
  /** The same of those that were asked for; and the bytes of all of them together, of which the newest stays in any case. */
  readonly askedMax?: number | undefined;
  readonly askedMs?: number | undefined;
  readonly askedBytes?: number | undefined;
  /** How many of those that it slept in. Absent: as many as of the others that were made by themselves. */
  readonly storesMax?: number | undefined;
}

/** No comparison takes so long. */
const COMPARED_MS = 60 * 60_000;

/** The oldest first; each kind by its own limits, and what deaths have left apart from the others that were made by themselves. */
export function outlived(snapshots: readonly Kept[], policy: SnapshotPolicy, nowMs: number): Kept[] {
  const asked = snapshots.filter(({ because }) => because === 'asked');
  const stores = snapshots.filter(({ because }) => because === 'store');
  const automatic = snapshots.filter(({ because }) => because === 'fork' || because === 'restore');
  // Apart from those of forks, which are the bases that the next merges need.
  const merged = snapshots.filter(({ because }) => because === 'merge');
  // Each goes with what it was made for; what is left of them is of a node-agent that died meanwhile.
  const compared = snapshots.filter(({ because }) => because === 'compare');
  // The newest is all that is left of what died, the memory of one, the files of another, however long ago that was.
  const deaths = newestFirst(snapshots.filter(({ because }) => because === 'death'));
  const disks = newestFirst(snapshots.filter(({ because }) => because === 'fall-back'));
  const { automaticMax, automaticMs, askedMax, askedMs, askedBytes, storesMax = automaticMax } = policy;
  return [
    ...beyond(automatic, { max: automaticMax, ms: automaticMs }, nowMs),
    ...beyond(merged, { max: automaticMax, ms: automaticMs }, nowMs),
    ...beyond(deaths.slice(1), { max: automaticMax - 1, ms: automaticMs }, nowMs),
    ...beyond(disks.slice(1), { max: automaticMax - 1, ms: automaticMs }, nowMs),
    ...beyond(compared, { ms: COMPARED_MS }, nowMs),
    ...beyond(stores, { max: storesMax, ms: automaticMs }, nowMs),
    ...beyond(asked, { max: askedMax, ms: askedMs, bytes: askedBytes }, nowMs),
  ];
}

function newestFirst(snapshots: readonly Kept[]): Kept[] {
  return snapshots.toSorted((a, b) => b.atMs - a.atMs);
}

function beyond(
  snapshots: readonly Kept[],
  {
    max = Infinity,
    ms = Infinity,
    bytes = Infinity,
  }: { max?: number | undefined; ms?: number | undefined; bytes?: number | undefined },
  nowMs: number,
): Kept[] {
  let sum = 0;
  const goes = newestFirst(snapshots).filter((one, at) => {
    sum += 'bytes' in one ? one.bytes : 0;
    return at >= max || nowMs - one.atMs > ms || (at > 0 && sum > bytes);
  });
  return goes.toReversed();
}
