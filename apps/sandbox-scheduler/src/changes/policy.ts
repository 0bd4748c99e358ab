import type { Sandbox, WakeBudget } from '@torpor/contracts';
import type { Store } from '@torpor/store';

/** How a sandbox sleeps, as its node is to be told: under its own wake budget, or that of its workspace. */
export async function policyOf(
  store: Store,
  { idle, wakeBudget, workspace }: Pick<Sandbox, 'idle' | 'wakeBudget' | 'workspace'>,
): Promise<{ idle: Sandbox['idle']; wakeBudget?: WakeBudget }> {
  const budget = wakeBudget ?? (await store.workspaces.get(workspace))?.wakeBudget;
  return { idle, ...(budget ? { wakeBudget: budget } : {}) };
}
