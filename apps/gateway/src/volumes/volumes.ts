/** Volumes as every dialect uses them: asks passed on to the scheduler, records read from the store, what they hold asked of their nodes. */
import type { Wire } from '@torpor/bus';
import {
  attachVolume,
  createVolume,
  deleteVolume,
  describeVolumes,
  detachVolume,
  resizeVolume,
  type NodeId,
  type SandboxName,
  type Volume,
  type VolumeId,
  type VolumeName,
  type WorkspaceName,
} from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { Store } from '@torpor/store';

/** `usedMib`: absent when its node does not say. */
export type VolumeNow = Volume & { readonly usedMib?: number };

interface NewVolume {
  readonly name: VolumeName;
  readonly kind: Volume['kind'];
  readonly sizeMib?: number | undefined;
  readonly from?: VolumeName | undefined;
  readonly createdBy: string;
}

/** Of one workspace. */
export interface Volumes {
  list(): Promise<VolumeNow[]>;
  get(name: VolumeName): Promise<VolumeNow>;
  create(volume: NewVolume): Promise<Volume>;
  resize(name: VolumeName, sizeMib: number): Promise<Volume>;
  delete(name: VolumeName): Promise<Volume>;
  /** Resolves when it can be used inside. */
  attach(name: VolumeName, to: { sandbox: SandboxName; path: string }): Promise<Volume>;
  detach(name: VolumeName): Promise<Volume>;
}

/** The list waits no longer for what nodes say. */
const DESCRIBE_MS = 1_000;

export function volumesOf(
  { wire, store }: { wire: Wire; store: Store },
  workspace: WorkspaceName,
  traceparent: string,
): Volumes {
  const shelf = store.workspace(workspace).volumes;
  const options = { traceparent };
  return {
    list: async () => {
      const volumes = await shelf.list();
      const used = await usedOf(wire, volumes, traceparent);
      return volumes.map((volume) => withUse(volume, used));
    },
    get: async (name) => {
      const volume = await shelf.get(name);
      if (!volume) throw new Failure('not_found', `there is no volume "${name}" in the workspace "${workspace}"`);
      return withUse(volume, await usedOf(wire, [volume], traceparent));
    },
    create: async ({ sizeMib, from, ...volume }) => {
      const how = { ...(sizeMib === undefined ? {} : { sizeMib }), ...(from === undefined ? {} : { from }) };
      return (await wire.ask(createVolume, { workspace, ...volume, ...how }, options)).volume;
    },
    resize: async (name, sizeMib) => (await wire.ask(resizeVolume, { workspace, name, sizeMib }, options)).volume,
    delete: async (name) => (await wire.ask(deleteVolume, { workspace, name }, options)).volume,
    attach: async (name, to) => (await wire.ask(attachVolume, { workspace, name, ...to }, options)).volume,
    detach: async (name) => (await wire.ask(detachVolume, { workspace, name }, options)).volume,
  };
}

function withUse(volume: Volume, used: ReadonlyMap<VolumeId, number>): VolumeNow {
  const usedMib = used.get(volume.id);
  return usedMib === undefined ? volume : { ...volume, usedMib };
}

/** A node that cannot say leaves what it holds out. */
async function usedOf(wire: Wire, volumes: readonly Volume[], traceparent: string): Promise<Map<VolumeId, number>> {
  const byNode = new Map<NodeId, VolumeId[]>();
  for (const { id, nodeId, phase } of volumes) {
    if (phase === 'ready') byNode.set(nodeId, [...(byNode.get(nodeId) ?? []), id]);
  }
  const answers = await Promise.allSettled(
    [...byNode].map(([node, ids]) =>
      wire.ask(describeVolumes, { volumes: ids.slice(0, 1_000) }, { node, traceparent, deadlineMs: DESCRIBE_MS }),
    ),
  );
  const told = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value.volumes : []));
  return new Map(told.map(({ volume, usedMib }) => [volume, usedMib]));
}
