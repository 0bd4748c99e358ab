import { explain } from '@torpor/kernel';
import type { Body, Parts } from '../parts.ts';

/**
 * Leaves nothing of an instance, its journal last, or but the snapshots `keep`. `dead` is called when it can no longer run. Rejects when a step fails; asking again goes on from there.
 */
export async function destroyOnHost(
  parts: Parts,
  body: Body,
  reason: string,
  { dead = () => {}, images = [], keep = [] }: Leaving & { dead?: () => void } = {},
): Promise<void> {
  const steps = parts.driver.destroySteps({ instanceId: body.hostId, slot: body.slot, images });
  const intent = await parts.journal.intendDestroy(body.hostId, reason, steps, keep);
  // Drivers end the processes first: everything else would only be torn from under them.
  const killing = steps[0]?.name;
  await parts.journal.carryOut(intent, steps, (step, error) => {
    if (step.name === killing && error === undefined) dead();
  });
  dead();
  await parts.volumes.left(body.hostId);
  if (keep.length > 0) await parts.journal.remains(body.hostId, keep);
  else await parts.journal.forget(body.hostId);
  parts.slots.free(body.slot, body.hostId);
  parts.events.destroyed({ hostId: body.hostId, reason });
}

/** Images that go with it, and those that do not. */
export interface Leaving {
  readonly images?: readonly string[];
  readonly keep?: readonly string[];
}

/** Destroys however often it takes; ends early only when the room closes, and then the journal carries it over. */
export async function destroySurely(parts: Parts, body: Body, reason: string, leaving: Leaving = {}): Promise<void> {
  for (let attempt = 0; !parts.closing.aborted; attempt++) {
    try {
      return await destroyOnHost(parts, body, reason, leaving);
    } catch (error) {
      parts.events.destroyFailed({ hostId: body.hostId, reason: explain(error), attempt });
      await retryPause(parts, attempt);
    }
  }
}

/** Waits before the next attempt, twice as long each time; ends at once when the room closes. */
export async function retryPause(parts: Parts, attempt: number): Promise<void> {
  await parts.clock.after(Math.min(100 * 2 ** attempt, 5_000), parts.closing).catch(() => {});
}
