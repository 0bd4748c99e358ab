/**
 * What the journal of a volume says. A volume has one of its own, under its id: its acts outlive the instances that it was attached to. Each is *intended*
 * first, under the generation that it was asked with; whatever was asked with an older one comes too late.
 */
import { Generation, InstanceId, VolumeId } from '@torpor/contracts';
import { z } from 'zod';

/** The instance that has a volume, and where: `name` in its directory of volumes, `path` inside. */
export const Holder = z.object({
  hostId: InstanceId,
  instanceId: InstanceId,
  name: z.string(),
  path: z.string(),
});
export type Holder = z.infer<typeof Holder>;

const generation = Generation;

export const VolumeAct = z.discriminatedUnion('operation', [
  /** Make it, or give it this size. */
  z.object({
    operation: z.literal('volume.hold'),
    generation,
    sizeMib: z.number().int(),
    from: VolumeId.optional(),
  }),
  /** Leave nothing of it. */
  z.object({ operation: z.literal('volume.drop'), generation }),
  /** `sizeMib`: it is made with the instance, as a copy of what an image holds. */
  z.object({
    operation: z.literal('volume.give'),
    generation,
    to: Holder,
    sizeMib: z.number().int().optional(),
  }),
  /** From whoever has it. */
  z.object({ operation: z.literal('volume.take'), generation }),
]);
export type VolumeAct = z.infer<typeof VolumeAct>;

const atMs = z.number();

export const VolumeLine = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('intent'), atMs, steps: z.array(z.string()), act: VolumeAct }),
  z.object({ kind: z.literal('step'), operation: z.string(), atMs, step: z.string() }),
  z.object({ kind: z.literal('done'), atMs }),
  /** The instance that had it is gone; the host has taken it back. */
  z.object({ kind: z.literal('left'), atMs }),
]);
export type VolumeLine = z.infer<typeof VolumeLine>;

/** A volume as its journal tells it. */
export interface VolumeEntry {
  readonly volume: VolumeId;
  /** The latest that anything was asked with. */
  readonly generation: Generation;
  readonly sizeMib: number;
  /** From the intent to give it on, to the end of its being taken. */
  readonly holder: (Holder & { readonly generation: Generation }) | undefined;
  /** Intended, and not ended. */
  readonly doing: VolumeAct | undefined;
}

/** `undefined`: nothing was ever intended. */
export function foldVolume(volume: VolumeId, lines: readonly VolumeLine[]): VolumeEntry | undefined {
  return lines.reduce<VolumeEntry | undefined>((entry, line) => volumeAfter(volume, entry, line), undefined);
}

export function volumeAfter(
  volume: VolumeId,
  entry: VolumeEntry | undefined,
  line: VolumeLine,
): VolumeEntry | undefined {
  switch (line.kind) {
    case 'intent':
      return intended(volume, entry, line.act);
    case 'done':
      return entry && ended(entry);
    case 'left':
      return entry && { ...entry, doing: undefined, holder: undefined };
    case 'step':
      return entry;
  }
}

function intended(volume: VolumeId, before: VolumeEntry | undefined, act: VolumeAct): VolumeEntry {
  const { generation } = act;
  const entry = { sizeMib: 0, holder: undefined, ...before, volume, generation, doing: act };
  if (act.operation !== 'volume.give') return entry;
  return { ...entry, sizeMib: act.sizeMib ?? entry.sizeMib, holder: { ...act.to, generation } };
}

function ended(entry: VolumeEntry): VolumeEntry {
  const { doing } = entry;
  const rest = { ...entry, doing: undefined };
  switch (doing?.operation) {
    case 'volume.hold':
      return { ...rest, sizeMib: doing.sizeMib };
    case 'volume.take':
      return { ...rest, holder: undefined };
    case 'volume.give':
    case 'volume.drop':
    case undefined:
      return rest;
  }
}
