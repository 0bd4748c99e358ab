/**
 * A snapshot of an instance that goes on: its memory is saved and its disk snapshotted while it sleeps, which is all that it waits for; sealing and
 * reading back touch the image alone. Journaled step by step. It is one when all of that has ended well.
 */
import { explain, Failure } from '@torpor/kernel';
import type { Step, StoreFacts } from '@torpor/runtime';
import type { KeptSnapshot, SnapshotNote } from '../journal/index.ts';
import type { Parts } from '../parts.ts';
import { nextImage, yielding, type Sleeper } from './store.ts';

export interface Snapshotting {
  /** The instance may run again. Rejects when there will be no snapshot. */
  readonly saved: Promise<void>;
  readonly whole: Promise<{ readonly snapshot: KeptSnapshot; readonly facts: Partial<StoreFacts> }>;
}

/** The last step that wants the instance asleep. */
const SAVED = 'disk.snapshot';

/** It must be asleep. `ends` aborts when the instance does: the snapshot is given up. */
export function snapshotOnHost(parts: Parts, sleeper: Sleeper, note: SnapshotNote, ends: AbortSignal): Snapshotting {
  const saved = Promise.withResolvers<void>();
  const whole = make(parts, sleeper, { note, ends, saved: () => saved.resolve() });
  whole.catch(saved.reject);
  return { saved: saved.promise, whole };
}

async function make(
  parts: Parts,
  sleeper: Sleeper,
  { note, ends, saved }: { note: SnapshotNote; ends: AbortSignal; saved: () => void },
) {
  const { shelving } = sleeper;
  const { image, sealedKey, volumes, steps, facts } = nextImage(parts, sleeper);
  const { intent } = await shelving.intend(
    { operation: 'snapshot', image, sealedKey, note, census: sleeper.census, volumes },
    steps,
  );
  try {
    const watched = steps.map((step) => (step.name === SAVED ? andThen(step, saved) : step));
    await parts.journal.carryOut(
      intent,
      watched.map((step) => yielding(step, ends)),
    );
    const { bytes = 0, memoryBytes = 0 } = facts;
    await shelving.done({ operation: 'snapshot', image, bytes, memoryBytes }, { durable: true });
    return { snapshot: shelving.snapshot(image), facts };
  } catch (error) {
    // Of one that ends nothing more is written down; the room's end is found in the journal.
    if (ends.aborted) throw ends.reason;
    if (!parts.closing.aborted) await shelving.unmade(image, explain(error));
    throw error;
  }
}

/** Throws when the snapshot needs more than the disk has: early, before anything is put to sleep for it. */
export async function assertRoom({ driver }: Parts, { hostId }: Sleeper): Promise<void> {
  const [{ diskFreeMib }, usage] = await Promise.all([driver.capacity(), driver.usage([hostId])]);
  const { memoryMib = 0, swapMib = 0 } = usage.get(hostId) ?? {};
  const neededMib = Math.ceil((memoryMib + swapMib) * 1.2);
  if (diskFreeMib >= neededMib) return;
  throw new Failure(
    'no_space',
    `an image of it may take ${neededMib} MiB, and the node has ${Math.floor(diskFreeMib)} MiB of disk free; deleting snapshots frees some`,
  );
}

function andThen(step: Step, ended: () => void): Step {
  return {
    ...step,
    async run(intent) {
      await step.run(intent);
      ended();
    },
  };
}
