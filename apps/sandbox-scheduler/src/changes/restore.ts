import { listSnapshots, restoreSandbox, restoreSnapshot, type Route, type Sandbox } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { z } from 'zod';
import { nextGeneration } from '../creation/new-sandbox.ts';
import type { FleetView } from '../fleet/fleet-view.ts';
import type { Parts } from '../parts.ts';
import type { RouteHints } from '../routes.ts';

type Ask = z.infer<typeof restoreSandbox.request>;
type Answer = z.infer<typeof restoreSandbox.reply>;

/**
 * Brings a sandbox back to what a snapshot of it holds. Its generation is raised first: what comes back has not heard of what came in between, so whoever
 * has must find the way anew. When the node does not hear of it, its next report shows it as behind, and it is told then; nothing was restored.
 */
export async function restoreOf(
  parts: Parts,
  around: { fleet: FleetView; hints: RouteHints },
  { workspace, name, snapshot }: Ask,
  traceparent: string,
): Promise<Answer> {
  const { store, clock, wire, closing, events } = parts;
  const before = await store.wanted.living(workspace, name);
  if (!before) throw new Failure('not_found', `there is no sandbox "${name}" in workspace "${workspace}"`);
  const at = { node: before.nodeId, signal: closing, traceparent };
  await assertThere(parts, before, snapshot, at);
  const sandbox = await store.wanted.raise(before, { generation: nextGeneration(before), atMs: clock.nowMs() });
  if (!sandbox) {
    const why = 'was just changed otherwise, or is on its way to another node';
    throw new Failure('conflict', `the sandbox "${name}" ${why}`, { retryable: true });
  }
  const { instanceId, generation } = sandbox;
  const route = await routeOf(parts, around.fleet, sandbox);
  around.hints.tell(sandbox, route);
  const restored = await wire.ask(restoreSnapshot, { instanceId, generation, snapshot }, at);
  events.updated(sandbox, { changed: ['memory', 'files'], restarted: false });
  return { sandbox, route, ...restored };
}

/** Nothing is raised for a name that was mistyped. */
async function assertThere(
  { wire }: Parts,
  { instanceId, generation, name, phase }: Sandbox,
  snapshot: string,
  at: { node: Sandbox['nodeId']; signal: AbortSignal; traceparent: string },
): Promise<void> {
  if (phase !== 'ready') {
    throw new Failure('conflict', `the sandbox "${name}" is ${phase}; only one that is ready can be restored`, {
      retryable: true,
    });
  }
  const { snapshots } = await wire.ask(listSnapshots, { instanceId, generation }, at);
  const found = snapshots.find((one) => one.id === snapshot || one.name === snapshot);
  if (!found) throw new Failure('not_found', `the sandbox "${name}" has no snapshot "${snapshot}"`);
  if (found.state !== 'ready') throw new Failure('conflict', `the snapshot "${snapshot}" is ${found.state}, not ready`);
}

async function routeOf({ store }: Parts, fleet: FleetView, sandbox: Sandbox): Promise<Route> {
  const { instanceId, generation, nodeId } = sandbox;
  if (fleet.urlOf(nodeId) === undefined) await fleet.refresh(store);
  const nodeUrl = fleet.urlOf(nodeId);
  if (nodeUrl === undefined) throw new Error(`node ${nodeId} holds an instance and was never heard of`);
  return { instanceId, generation, nodeId, nodeUrl };
}
