import type { Sandbox, SnapshotLimits, WakeBudget } from '@torpor/contracts';
import type { Store } from '@torpor/store';

interface Policy {
  readonly idle: Sandbox['idle'];
  readonly wakeBudget?: WakeBudget;
  readonly snapshotLimits?: SnapshotLimits;
}

/** How a sandbox sleeps and what is kept of it, as its node is to be told: under its own wake budget, or that of its workspace. */
export async function policyOf(
  store: Store,
  { idle, wakeBudget, snapshotLimits, workspace }: Sandbox,
): Promise<Policy> {
  const budget = wakeBudget ?? (await store.workspaces.get(workspace))?.wakeBudget;
  return { idle, ...(budget ? { wakeBudget: budget } : {}), ...(snapshotLimits ? { snapshotLimits } : {}) };
}
