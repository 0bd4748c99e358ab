/** Watches the host's memory, and has sleepers paged out before their time when it runs short. */
import { explain, withDeadline } from '@torpor/kernel';
import { mayPageOut, relieve } from '@torpor/policy';
import type { Parts } from '../parts.ts';
import type { Instance } from './instance.ts';

const LOOK_MS = 2_000;
/** After one that came to nothing, so that a host in trouble is not kept busy with it. */
const REST_MS = 10_000;
/** For one sleeper: with that one still at it, the next is asked. */
const ONE_MS = 60_000;

export async function relieveHost(parts: Parts, instances: () => Iterable<Instance>): Promise<void> {
  const { clock, closing, events } = parts;
  let waitMs = LOOK_MS;
  while (!closing.aborted) {
    await clock.after(waitMs, closing).catch(() => {}); // the room closes
    if (closing.aborted) return;
    try {
      const relieved = await relieveOnce(parts, instances);
      waitMs = relieved === 'in vain' ? REST_MS : relieved === 'relieved' ? 0 : LOOK_MS;
    } catch (error) {
      if (closing.aborted) return;
      events.reliefFailed({ reason: explain(error) });
      waitMs = REST_MS;
    }
  }
}

/** `idle`: there was no need, or nobody to do it with. Rejects when the one that was asked has not ended in time. */
export async function relieveOnce(
  parts: Parts,
  instances: () => Iterable<Instance>,
): Promise<'idle' | 'relieved' | 'in vain'> {
  const { admission, clock, closing, swap, events } = parts;
  const capacity = await admission.look();
  const all = new Map<string, Instance>([...instances()].map((instance) => [instance.claim.instanceId, instance]));
  const sleepers = [...all.values()].flatMap((instance) => instance.depth.slumber ?? []);
  const host = { ...capacity, pagesOut: mayPageOut(swap, capacity.swap).kind === 'may' };
  const instance = all.get(relieve(host, sleepers, clock.nowMs()) ?? '');
  if (!instance) return 'idle';
  const { instanceId } = instance.claim;
  events.relief({ instanceId, freeMib: Math.round(capacity.memoryFreeMib) });
  await withDeadline({ name: `relief by ${instanceId}`, ms: ONE_MS, clock, outer: closing }, () =>
    instance.lean('memory is short'),
  );
  return instance.state === 'lean' ? 'relieved' : 'in vain';
}
