import type { EventView } from '@torpor/api';
import type { InstanceReport, WorkspaceName } from '@torpor/contracts';
import type { LiveStates } from '../sandboxes/live-states.ts';

const WAITING_MAX = 1_000;

/** What happens to the workspace's sandboxes from now on, until the signal aborts. A watcher that does not keep up loses the oldest. */
export async function* watchEvents(
  live: LiveStates,
  workspace: WorkspaceName,
  signal: AbortSignal,
): AsyncGenerator<EventView> {
  const waiting: EventView[] = [];
  let wake: (() => void) | undefined;
  const stop = live.onEvent(({ atMs, nodeId, what, instance }) => {
    if (instance.workspace !== workspace) return;
    const { name, instanceId, state } = instance;
    waiting.push({ atMs, nodeId, name, instanceId, state, what, because: causeOf(instance) });
    if (waiting.length > WAITING_MAX) waiting.shift();
    wake?.();
  });
  const aborted = () => wake?.();
  signal.addEventListener('abort', aborted);
  try {
    while (!signal.aborted) {
      const next = waiting.shift();
      if (next) yield next;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    signal.removeEventListener('abort', aborted);
    stop();
  }
}

/** Why one ended is its reason; why it was awake or asleep until then says nothing of that. */
function causeOf({ state, because, reason }: InstanceReport): string {
  const ends = state === 'deleting' || state === 'deleted' || state === 'failed';
  return ends ? (reason ?? because) : because;
}
