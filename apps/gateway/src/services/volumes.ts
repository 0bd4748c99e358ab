import type { Services, VolumeView } from '@torpor/api';
import type { Wire } from '@torpor/bus';
import type { Store } from '@torpor/store';
import type { Caller } from '../callers/admission.ts';
import { volumesOf, type VolumeNow } from '../volumes/volumes.ts';

type During = <T>(action: string, target: () => string | undefined, work: () => Promise<T>) => Promise<T>;

export function volumeServices(
  parts: { readonly wire: Wire; readonly store: Store },
  { caller, traceparent }: { readonly caller: Caller; readonly traceparent: string },
  during: During,
): Services['volumes'] {
  const volumes = volumesOf(parts, caller.workspace, traceparent);
  const createdBy = caller.key.subject;
  const audited = (action: string, name: string, work: () => Promise<VolumeNow>) =>
    during(
      `volume.${action}`,
      () => name,
      async () => viewOf(await work()),
    );
  return {
    list: async () => (await volumes.list()).map(viewOf),
    get: async ({ name }) => viewOf(await volumes.get(name)),
    create: ({ name, sizeMib, from }) =>
      audited('create', name, () => volumes.create({ name, kind: 'volume', sizeMib, from, createdBy })),
    snapshot: ({ name, as }) =>
      audited('snapshot', name, () => volumes.create({ name: as, kind: 'snapshot', from: name, createdBy })),
    resize: ({ name, sizeMib }) => audited('resize', name, () => volumes.resize(name, sizeMib)),
    attach: ({ name, ...to }) => audited('attach', name, () => volumes.attach(name, to)),
    detach: ({ name }) => audited('detach', name, () => volumes.detach(name)),
    delete: ({ name }) => audited('delete', name, () => volumes.delete(name)),
  };
}

function viewOf(volume: VolumeNow): VolumeView {
  const { workspace: _, updatedAtMs: __, ...rest } = volume;
  return rest;
}
