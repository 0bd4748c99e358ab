/** Where volumes are seen inside. The guest's mounts are its memory: an image brings them back as they were when it was made. */
import { Failure } from '@torpor/kernel';
import { VOLUMES_DIR, type Guest } from '@torpor/runtime';

interface Place {
  /** In the instance's directory of volumes. */
  readonly name: string;
  readonly path: string;
}

interface Mounts {
  readonly mounts: readonly { readonly source: string; readonly target: string }[];
}

/** Twice is once. */
export async function mountAt(guest: Guest, { name, path }: Place): Promise<void> {
  await guest.json('POST', '/v1/mounts', { source: `${VOLUMES_DIR}/${name}`, target: path });
}

/** Rejects as `conflict` while a program uses it. */
export async function unmountFrom(guest: Guest, { path }: Place): Promise<void> {
  try {
    await guest.json('DELETE', `/v1/mounts?target=${encodeURIComponent(path)}`);
  } catch (error) {
    if (error instanceof Failure && error.code === 'not_found') return;
    if (!(error instanceof Failure) || error.code !== 'conflict') throw error;
    throw new Failure('conflict', `a program uses what is at ${path}; stop it, then detach the volume`, {
      cause: error,
    });
  }
}

/** After a wake whose memory may know of other volumes than it has now: what is mounted is what it has. */
export async function settleMounts(guest: Guest, places: readonly Place[]): Promise<void> {
  const { mounts } = await guest.json<Mounts>('GET', '/v1/mounts');
  const wanted = new Map(places.map(({ name, path }) => [path, `${VOLUMES_DIR}/${name}`]));
  for (const { source, target } of mounts) {
    if (wanted.get(target) !== source)
      await guest.json('DELETE', `/v1/mounts?target=${encodeURIComponent(target)}&force=1`);
  }
  for (const place of places) await mountAt(guest, place);
}
