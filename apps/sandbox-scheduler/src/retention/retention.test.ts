import { describe, expect, it } from 'vitest';
import { workspace, clock, store, create } from '../testing/stage.ts';

describe('retention', () => {
  it('lets go of usage and audit rows that were kept long enough, and of no others', async () => {
    const { sandbox } = await create();
    const { instanceId, generation, nodeId } = sandbox;
    const figures = { cpuMs: 1, memoryMibMs: 1, egressBytes: 1, diskMib: 1, tier: 'running' as const };
    const dayMs = 24 * 3_600_000;
    const daysAgo = (days: number) => clock.nowMs() - days * dayMs;
    const ended = (days: number) => ({
      ...figures,
      ...{ workspace, instanceId, generation, sequence: days },
      fromMs: daysAgo(days) - 1,
      toMs: daysAgo(days),
    });
    await store.usage.book(nodeId, [ended(401), ended(399)]);
    for (const days of [500, 401, 399, 1])
      await store.audit.append({ atMs: daysAgo(days), actor: 'user:ada', action: 'sandbox.create', outcome: 'ok' });
    await clock.advance(3_600_000);
    expect(await store.audit.verify()).toEqual({ rows: 2 });
    const sums = await store.workspace(workspace).usage.sum({ fromMs: 0, toMs: clock.nowMs() });
    expect(sums).toMatchObject([{ instanceId, spanMs: 1 }]);
  });
});
