import type { Wire } from '@torpor/bus';
import { instanceChanged, type InstanceState, type NodeId } from '@torpor/contracts';
import type { Clock } from '@torpor/kernel';
import type { Instance } from './instance.ts';

/** Tells whoever watches what became of an instance. States on the way somewhere are told as well. */
export function tellChange(
  { wire, clock, nodeId }: { wire: Wire; clock: Clock; nodeId: NodeId },
  instance: Instance,
  before: InstanceState,
): void {
  wire.publish(instanceChanged, {
    atMs: clock.nowMs(),
    nodeId,
    instance: instance.report(),
    what: whatHappened(before, instance),
  });
}

function whatHappened(before: InstanceState, { state: after, past }: Instance): string {
  switch (after) {
    case 'running':
      if (before === 'creating') return 'created';
      return past.lastWakeLost ? 'woke without all that it was' : 'woke';
    case 'paused':
      return before === 'storing' ? 'could not be stored' : 'fell asleep';
    case 'lean':
      return 'was paged out';
    case 'deleted':
      return 'deleted';
    case 'failed':
      return 'failed';
    case 'stored':
      return 'was stored';
    case 'creating':
    case 'pausing':
    case 'waking':
    case 'storing':
    case 'restoring':
    case 'deleting':
      return after;
  }
}
