import type { InstanceId } from '@torpor/contracts';
import type { Intent, Step } from './port.ts';

/**
 * The bar that every change on a host is journaled before it happens: called by whatever is about to change something. A missing intent is a bug of
 * ours, not a failure of the host, so it is thrown as a plain error.
 */
export function assertCovered(intent: Intent, verb: string, instanceId: InstanceId | string): void {
  if (intent.instanceId !== instanceId) {
    throw new Error(`"${verb}" on instance ${instanceId} was asked with an intent for instance ${intent.instanceId}`);
  }
  if (!intent.covers(verb)) {
    throw new Error(
      `"${verb}" on instance ${instanceId} was asked without a journaled intent: "${intent.operation}" does not cover it`,
    );
  }
}

/**
 * Runs steps, each as soon as those it waits for have ended. The first failure keeps later steps from beginning; it is thrown when those under way
 * have ended, so that whoever cleans up afterwards races nothing. `observed` hears of each step's end and its time.
 */
export async function runSteps(
  steps: readonly Step[],
  intent: Intent,
  observed: (step: Step, error: unknown) => void = () => {},
): Promise<void> {
  const ends = new Map<string, Promise<void>>();
  let failure: { error: unknown } | undefined;
  for (const step of steps) ends.set(step.name, begin(step));
  await Promise.allSettled(ends.values());
  if (failure) throw failure.error;

  async function begin(step: Step): Promise<void> {
    await Promise.all(step.after.map((name) => ended(name, step)));
    if (failure) return;
    try {
      await step.run(intent);
      observed(step, undefined);
    } catch (error) {
      failure ??= { error };
      observed(step, error);
    }
  }

  function ended(name: string, step: Step): Promise<void> {
    const end = ends.get(name);
    if (!end) throw new Error(`the step "${step.name}" waits for "${name}", which does not stand before it`);
    return end;
  }
}
