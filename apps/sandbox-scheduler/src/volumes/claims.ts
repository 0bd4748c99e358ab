/** The volumes of sandboxes that are being created: where they must go, and how they come by them. */
import {
  Generation,
  newVolumeId,
  VolumeName,
  type NodeId,
  type Sandbox,
  type Snapshot,
  type Volume,
  type VolumeMount,
} from '@torpor/contracts';
import { Failure, randomWord, type Chance } from '@torpor/kernel';
import type { Parts } from '../parts.ts';
import { attachedTo, type Volumes } from './volumes.ts';

/** What a create has asked for, as it is now; all free, and all on one node. */
export async function wantedVolumes(
  volumes: Volumes,
  { workspace, volumes: mounts = [] }: { workspace: Volume['workspace']; volumes?: readonly VolumeMount[] | undefined },
): Promise<{ nodeId: NodeId | undefined; claims: readonly Claim[] }> {
  const claims = await Promise.all(
    mounts.map(async ({ name, path }) => ({ volume: await volumes.usable(workspace, name), path })),
  );
  const taken = claims.find(({ volume }) => volume.attachment);
  if (taken) throw attachedTo(taken.volume);
  const [first, ...others] = claims.map(({ volume }) => volume);
  const apart = first && others.find(({ nodeId }) => nodeId !== first.nodeId);
  if (apart) {
    const where = `"${first.name}" is on the node ${first.nodeId}, and "${apart.name}" on ${apart.nodeId}`;
    throw new Failure('unprocessable', `${where}; one sandbox has volumes of one node`);
  }
  return { nodeId: first?.nodeId, claims };
}

interface Claim {
  readonly volume: Volume;
  readonly path: string;
}

/** Writes them down as the sandbox's, whose row is there. Throws when somebody else was quicker; then it has none of them. */
export async function claimVolumes({ store, clock }: Parts, sandbox: Sandbox, claims: readonly Claim[]): Promise<void> {
  const { instanceId, name } = sandbox;
  for (const { volume, path } of claims) {
    const given = await store.volumes.attach(volume.id, { instanceId, sandbox: name, path }, clock.nowMs());
    if (!given) throw attachedTo((await store.volumes.find(volume.workspace, volume.name)) ?? volume);
  }
}

/** Rows of a fork's own copies of what its parent's snapshot holds. They go with the fork, unless they are detached from it first. */
export async function claimCopies(
  { store, clock, chance }: Parts,
  fork: Sandbox,
  held: NonNullable<Snapshot['volumes']>,
): Promise<void> {
  const known = await store.workspace(fork.workspace).volumes.list();
  for (const { volume: of, path, sizeMib } of held) {
    const origin = known.find(({ id }) => id === of);
    const nowMs = clock.nowMs();
    const volume = {
      id: newVolumeId(chance),
      workspace: fork.workspace,
      kind: 'volume' as const,
      sizeMib: origin?.sizeMib ?? sizeMib,
      nodeId: fork.nodeId,
      generation: Generation.parse(1),
      phase: 'creating' as const,
      attachment: { instanceId: fork.instanceId, sandbox: fork.name, path, state: 'attaching' as const },
      origin: { volume: of, name: origin?.name ?? VolumeName.parse('volume') },
      isForks: true,
      createdAtMs: nowMs,
      updatedAtMs: nowMs,
      createdBy: fork.createdBy,
    };
    await insertNamed({ store, chance }, `${volume.origin.name}-${fork.name}`, volume);
  }
}

const NAME_MAX = 49;
const NAMES_TRIED = 5;

async function insertNamed(
  { store, chance }: Pick<Parts, 'store'> & { chance: Chance },
  wish: string,
  volume: Omit<Volume, 'name'>,
): Promise<void> {
  for (let tried = 0; tried < NAMES_TRIED; tried++) {
    const ending = tried === 0 ? '' : `-${randomWord(chance, 6)}`;
    const name = VolumeName.parse(`${wish.slice(0, NAME_MAX - ending.length).replace(/-+$/, '')}${ending}`);
    if ((await store.volumes.insert({ ...volume, name })).kind === 'inserted') return;
  }
  throw new Error(`no name like "${wish}" is free for a volume`);
}
