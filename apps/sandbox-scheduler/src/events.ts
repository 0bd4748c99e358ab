/** Everything this room tells of itself: the metric, the log line and their attributes together. */
import type { Sandbox, Volume } from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import type { Incarnation, Move } from '@torpor/store';
import type { Telemetry } from '@torpor/telemetry';

export type SchedulerEvents = ReturnType<typeof schedulerEvents>;

export function schedulerEvents({ log, counter, histogram, gauge }: Telemetry) {
  const created = histogram('torpor_create_ms', 'From the ask to the committed answer', ['from']);
  const refused = counter('torpor_creates_refused_total', 'Creates that ended without a sandbox', ['code']);
  const attempts = counter('torpor_create_attempts_failed_total', 'Starts that a node refused or failed at', ['code']);
  const ended = counter('torpor_sandboxes_ended_total', 'Sandboxes terminated', ['because']);
  const failed = counter('torpor_sandboxes_failed_total', 'Sandboxes that failed after they had been ready');
  const stops = counter('torpor_stops_failed_total', 'Attempts to end an instance that failed and are repeated');
  const repairs = counter('torpor_repairs_total', 'What repair put right', ['what']);
  const troubles = counter('torpor_scheduler_troubles_total', 'Background work that failed and will be tried again', [
    'where',
  ]);
  const nodes = gauge('torpor_nodes', 'Nodes by whether they are heard of', ['state']);
  const openEndings = gauge('torpor_endings_open', 'Instances that must end and are not known to have ended');
  const orphans = gauge('torpor_orphans', 'Instances on nodes that no record knows', ['node']);
  const booked = counter('torpor_usage_intervals_total', 'Metering intervals booked');
  const refusedUsage = counter('torpor_usage_refused_total', 'Bookings by a node of instances that are not its own');
  const pruned = counter('torpor_rows_pruned_total', 'Rows deleted because they were kept long enough', ['what']);
  const moves = counter('torpor_moves_total', 'Moves of sandboxes from node to node, by how they ended', ['outcome']);
  const lostNodes = new Set<string>();

  return {
    created: (sandbox: Sandbox, more: { from: string; tookMs: number; attempts: number }) => {
      created.observe(more.tookMs, { from: more.from });
      log.info('sandbox created', { ...who(sandbox), ...more });
    },
    reused: (sandbox: Sandbox) => log.debug('sandbox reused', who(sandbox)),
    createFailed: (ask: { workspace: string; name: string; code: string; reason: string; tookMs: number }) => {
      refused.add(1, { code: ask.code });
      log.warn('sandbox not created', ask);
    },
    attemptFailed: (sandbox: Sandbox, more: { code: string; reason: string }) => {
      attempts.add(1, { code: more.code });
      log.warn('node did not start the instance', { ...who(sandbox), ...more });
    },
    updated: (sandbox: Sandbox, more: { changed: readonly string[]; restarted: boolean }) =>
      log.info('sandbox updated', { ...who(sandbox), ...more }),
    ended: (sandbox: Sandbox, because: 'asked' | 'expired' | 'replaced') => {
      ended.add(1, { because });
      log.info('sandbox ended', { ...who(sandbox), because, reason: sandbox.reason });
    },
    failed: (sandbox: Sandbox) => {
      failed.add();
      log.error('sandbox failed', { ...who(sandbox), reason: sandbox.reason });
    },
    stopFailed: (at: Incarnation & { nodeId: string; reason: string }) => {
      stops.add();
      log.warn('instance not ended yet', { instanceId: at.instanceId, nodeId: at.nodeId, reason: at.reason });
    },
    volume: (
      what: 'made' | 'resized' | 'attached' | 'detached' | 'deleted',
      { id, workspace, name, nodeId, generation }: Volume,
    ) => log.info(`volume ${what}`, { volume: id, workspace, name, nodeId, generation }),
    volumeTrouble: ({ id, workspace, name }: Volume, error: unknown) => {
      troubles.add(1, { where: 'volumes' });
      log.warn('volume not settled yet', { volume: id, workspace, name, reason: explain(error) });
    },
    repaired: (
      what: 'stuck create' | 'interrupted restart' | 'instance ended' | 'policy' | 'generation',
      at: object,
    ) => {
      repairs.add(1, { what });
      log.info('repaired', { what, ...at });
    },
    unwanted: ({ instanceId, generation, nodeId, why }: Incarnation & { nodeId: string; why: string }) =>
      log.warn('instance is not wanted', { instanceId, generation, nodeId, why }),
    orphans: (nodeId: string, instanceIds: readonly string[]) => {
      orphans.set(instanceIds.length, { node: nodeId });
      if (instanceIds.length > 0)
        log.error('no record knows these instances: they are left alone', { nodeId, instanceIds });
    },
    /** Each loss and each return is told once. */
    fleet: (states: readonly { id: string; alive: boolean; heardAtMs: number }[]) => {
      nodes.set(states.filter((node) => node.alive).length, { state: 'alive' });
      nodes.set(states.filter((node) => !node.alive).length, { state: 'silent' });
      for (const { id, alive, heardAtMs } of states) {
        if (alive && lostNodes.delete(id)) log.info('node is heard again', { nodeId: id });
        if (!alive && !lostNodes.has(id)) {
          lostNodes.add(id);
          log.error('node is silent: its sandboxes cannot be reached', { nodeId: id, heardAtMs });
        }
      }
    },
    moved: (sandbox: Sandbox, more: { from: string; bytes: number; tookMs: number }) => {
      moves.add(1, { outcome: 'moved' });
      log.info('sandbox moved', { ...who(sandbox), ...more });
    },
    notMoved: ({ instanceId, generation, workspace, name, from, to }: Move, reason: string) => {
      moves.add(1, { outcome: 'cancelled' });
      log.warn('sandbox not moved', { instanceId, generation, workspace, name, from, to, reason });
    },
    openEndings: (count: number) => openEndings.set(count),
    booked: (count: number) => booked.add(count),
    usageRefused: (nodeId: string, instanceIds: readonly string[]) => {
      refusedUsage.add(instanceIds.length);
      log.error('a node books use of instances that are not known as its own: not booked', { nodeId, instanceIds });
    },
    pruned: (what: 'usage' | 'audit', rows: number, beforeMs: number) => {
      pruned.add(rows, { what });
      log.info('old rows deleted', { what, rows, beforeMs });
    },
    /** Something in the background failed; its loop goes on. */
    trouble: (where: string, reason: string) => {
      troubles.add(1, { where });
      log.warn('background work failed', { where, reason });
    },
  };
}

function who({ workspace, name, instanceId, generation, nodeId }: Sandbox) {
  return { workspace, name, instanceId, generation, nodeId };
}
