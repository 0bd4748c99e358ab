import type { deleteSandbox, Sandbox } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { z } from 'zod';
import type { Parts } from '../parts.ts';
import type { RouteHints } from '../routes.ts';
import type { Endings } from './endings.ts';

type Ask = z.infer<typeof deleteSandbox.request>;

/** The commit ends it: from then on the name is free, and the node is told until it says that the instance has ended. */
export async function endSandbox(
  parts: Parts,
  around: { endings: Endings; hints: RouteHints },
  { workspace, name, reason, keepSnapshots = false }: Ask,
): Promise<Sandbox> {
  const gone = await parts.store.wanted.terminate(workspace, name, {
    reason,
    atMs: parts.clock.nowMs(),
    keepSnapshots,
  });
  if (!gone) throw new Failure('not_found', `there is no sandbox "${name}" in workspace "${workspace}"`);
  parts.events.ended(gone, 'asked');
  around.hints.drop(gone);
  // What is to be kept stands in the ending alone.
  const [ending] = keepSnapshots ? await parts.store.wanted.endings({ instanceIds: [gone.instanceId] }) : [];
  await around.endings.carryOutPatiently(ending ?? { ...gone, reason });
  return gone;
}
