/** What other rooms are told of snapshots. */
import type { Snapshot } from '@torpor/contracts';
import type { Kept, KeptImage, Shelf } from '../journal/index.ts';

export function asSnapshot(kept: Kept): Snapshot {
  const { image, name, because, by, atMs, volumes = [] } = kept;
  const held = volumes.map(({ volume, generation, path, sizeMib }) => ({ volume, generation, path, sizeMib }));
  const size = 'bytes' in kept ? { bytes: kept.bytes } : {};
  const snapshot = { id: image, ...given({ name, by }), because, state: 'ready' as const, atMs, ...size };
  return held.length > 0 ? { ...snapshot, volumes: held } : snapshot;
}

/** All of one instance, the oldest first: those that can be used, what it sleeps in and disks that were put aside included, those that are being made, and the last ones that came to nothing. */
export function snapshotsOf({ images, snapshots, asides, making, unmade }: Shelf): Snapshot[] {
  const isKept = ({ image }: KeptImage) => snapshots.some((one) => one.image === image);
  const sleptIn = images.filter((one) => !isKept(one));
  const all: Snapshot[] = [
    ...snapshots.map(asSnapshot),
    ...asides.map(asSnapshot),
    ...sleptIn.map((one) => asSnapshot({ ...one, because: 'store' })),
    ...making.map(({ image, atMs, note }) => ({
      id: image,
      ...given(note),
      because: note.because,
      state: 'making' as const,
      atMs,
    })),
    ...unmade.map(({ image, atMs, note, reason }) => ({
      id: image,
      ...given(note),
      because: note.because,
      state: 'failed' as const,
      reason,
      atMs,
    })),
  ];
  return all.toSorted((a, b) => a.atMs - b.atMs);
}

function given({ name, by }: { readonly name?: string | undefined; readonly by?: string | undefined }) {
  return { ...(name === undefined ? {} : { name }), ...(by === undefined ? {} : { by }) };
}
