/**
 * Points of sandboxes' lives, lent to those who look at the files there. A sandbox as it is now is a snapshot that is made for it and goes afterwards: only a save
 * brings to the disk what gVisor has not written there yet.
 */
import type { FilePoint, ToldPoint } from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import type { Kept } from '../journal/index.ts';
import { snapshotsOf } from '../standby/snapshot-report.ts';
import type { Standby } from '../standby/standby.ts';

export interface PointsParts {
  readonly standby: Standby;
  /** Told of a snapshot that could not be let go of. */
  readonly untidy: (what: { readonly instanceId: string; readonly reason: string }) => void;
}

/** What it was stays while `use` runs. */
export async function atPoint<T>(
  parts: PointsParts,
  point: FilePoint,
  use: (told: ToldPoint) => Promise<T>,
): Promise<T> {
  const { instanceId, generation, at } = point;
  const { snapshots, shelf } = parts.standby.shelfOf(instanceId, generation);
  if (at === 'now') return await asNow(parts, point, use);
  const which = at === 'last' ? lastOf(shelf) : at.snapshot;
  return await snapshots.lend(which, (found) => use(toldOf(found)));
}

async function asNow<T>(
  { standby, untidy }: PointsParts,
  { instanceId, generation }: FilePoint,
  use: (told: ToldPoint) => Promise<T>,
): Promise<T> {
  const instance = standby.at(instanceId, generation);
  const { snapshots, shelf } = instance;
  const newest = shelf.images.at(-1);
  // It sleeps in what it is.
  if (instance.state === 'stored' && shelf.rests !== 'elsewhere' && newest) {
    return await snapshots.lend(newest.image, (found) => use(toldOf(found)));
  }
  const made = await snapshots.make({ because: 'compare' });
  try {
    return await snapshots.lend(made.image, (found) => use(toldOf(found)));
  } finally {
    // It may have been made of what it has slept in meanwhile, under whatever note that had.
    if (made.because === 'compare') {
      const removed = snapshots.remove(made.image);
      await removed.catch((error: unknown) => untidy({ instanceId, reason: explain(error) }));
    }
  }
}

function lastOf(shelf: Parameters<typeof snapshotsOf>[0]): string {
  const last = snapshotsOf(shelf).findLast(
    ({ state, because }) => state === 'ready' && because !== 'compare' && because !== 'fall-back',
  );
  if (last) return last.id;
  throw new Failure('not_found', 'it has no snapshot yet; make one first: torpor snapshot create');
}

export function toldOf({ image, name, atMs, because }: Kept): ToldPoint {
  // It has no image, and so nothing that says what its files lay over.
  if (because === 'fall-back') {
    throw new Failure('conflict', `${image} is a disk alone, which no other point can be compared with`);
  }
  return { image, atMs, ...(name === undefined ? {} : { name }) };
}
