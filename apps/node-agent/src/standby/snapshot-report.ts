/** What other rooms are told of snapshots. */
import type { Snapshot } from '@torpor/contracts';
import type { KeptImage, KeptSnapshot, Shelf } from '../journal/index.ts';

export function asSnapshot({ image, name, because, by, atMs, bytes, volumes = [] }: KeptSnapshot): Snapshot {
  const held = volumes.map(({ volume, generation, path, sizeMib }) => ({ volume, generation, path, sizeMib }));
  const snapshot = { id: image, ...given({ name, by }), because, state: 'ready' as const, atMs, bytes };
  return held.length > 0 ? { ...snapshot, volumes: held } : snapshot;
}

/** All of one instance, the oldest first: those that can be used, what it sleeps in included, those that are being made, and the last ones that came to nothing. */
export function snapshotsOf({ images, snapshots, making, unmade }: Shelf): Snapshot[] {
  const isKept = ({ image }: KeptImage) => snapshots.some((one) => one.image === image);
  const sleptIn = images.filter((one) => !isKept(one));
  const all: Snapshot[] = [
    ...snapshots.map(asSnapshot),
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
