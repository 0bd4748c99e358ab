import { Generation, NodeId, type InstanceId, type Sandbox, type UsageInterval } from '@torpor/contracts';
import { describe, expect, it } from 'vitest';
import { T, type Stage } from './stage.ts';

export function describeUsage(stage: Stage): void {
  const { fresh, sandboxIn, insert, ready, next } = stage;

  describe('usage', () => {
    it('books each interval once, however often it is sent', async () => {
      const ws = fresh();
      const { instanceId, nodeId } = await insert(sandboxIn(ws.name));
      const at = (sequence: number, tier: UsageInterval['tier'], wake?: UsageInterval['wake']) => ({
        workspace: ws.name,
        instanceId,
        generation: Generation.parse(1),
        sequence,
        fromMs: T + sequence * 10,
        toMs: T + sequence * 10 + 10,
        tier,
        cpuMs: 2.5,
        memoryMibMs: 5_120,
        egressBytes: 3_000_000_000,
        diskMib: 7,
        ...(wake ? { wake } : {}),
      });
      const woken = [at(3, 'stored', 'whole'), at(4, 'stored', 'lost'), at(5, 'stored')];
      expect(await stage.store.usage.book(nodeId, [at(0, 'running'), at(1, 'paused')])).toEqual({
        booked: 2,
        refused: [],
      });
      expect(await stage.store.usage.book(nodeId, [at(1, 'paused'), at(2, 'running')])).toEqual({
        booked: 1,
        refused: [],
      });
      expect(await stage.store.usage.book(nodeId, woken)).toEqual({ booked: 3, refused: [] });
      const sums = (tier: UsageInterval['tier'], times: number, wakes = 0, wakesLost = 0) => ({
        instanceId,
        tier,
        spanMs: 10 * times,
        cpuMs: 2.5 * times,
        memoryMibMs: 5_120 * times,
        egressBytes: 3_000_000_000 * times,
        diskMibMs: 70 * times,
        wakes,
        wakesLost,
      });
      expect(await ws.usage.sum({ fromMs: T, toMs: T + 100 })).toEqual([
        sums('paused', 1),
        sums('running', 2),
        sums('stored', 3, 2, 1),
      ]);
      expect(await fresh().usage.sum({ fromMs: T, toMs: T + 100 })).toEqual([]);
    });

    it('is booked by the node that has or had the incarnation, for its workspace, and by no other', async () => {
      const ws = fresh();
      const moved = await ready(sandboxIn(ws.name));
      const now = await stage.store.wanted.supersede(moved, {
        ...next(moved),
        nodeId: NodeId.parse('node-b'),
        from: 'ready',
        atMs: T,
        reason: 'moved',
      });
      if (!now) throw new Error('it is ready, and so it moves');
      const of = (who: Pick<Sandbox, 'instanceId' | 'generation'>, workspace = ws.name) => ({
        workspace,
        instanceId: who.instanceId,
        generation: who.generation,
        sequence: 0,
        fromMs: T,
        toMs: T + 10,
        tier: 'running' as const,
        cpuMs: 1,
        memoryMibMs: 1,
        egressBytes: 1,
        diskMib: 1,
      });
      const refused = (who: { instanceId: InstanceId }) => ({ booked: 0, refused: [who.instanceId] });
      expect(await stage.store.usage.book(moved.nodeId, [of(now)])).toEqual(refused(now));
      expect(await stage.store.usage.book(now.nodeId, [of(moved)])).toEqual(refused(moved));
      expect(await stage.store.usage.book(now.nodeId, [of(now, fresh().name)])).toEqual(refused(now));
      const never = sandboxIn(ws.name);
      expect(await stage.store.usage.book(moved.nodeId, [of(moved), of(never)])).toEqual({
        booked: 1,
        refused: [never.instanceId],
      });
      expect(await stage.store.usage.book(now.nodeId, [of(now)])).toEqual({ booked: 1, refused: [] });
    });

    it('is forgotten when it ended long ago, so many intervals at once', async () => {
      const ws = fresh();
      const { instanceId, generation, nodeId } = await insert(sandboxIn(ws.name));
      const rest = { cpuMs: 1, memoryMibMs: 1, egressBytes: 1, diskMib: 1, tier: 'running' as const };
      const at = (sequence: number, toMs: number) => ({
        ...rest,
        workspace: ws.name,
        instanceId,
        generation,
        sequence,
        fromMs: toMs - 1,
        toMs,
      });
      await stage.store.usage.book(nodeId, [at(0, T - 900), at(1, T - 800), at(2, T - 700), at(3, T - 600)]);
      expect(await stage.store.usage.prune({ beforeMs: T - 600, limit: 2 })).toBe(2);
      expect(await stage.store.usage.prune({ beforeMs: T - 600, limit: 2 })).toBe(1);
      expect(await stage.store.usage.prune({ beforeMs: T - 600, limit: 2 })).toBe(0);
      expect(await ws.usage.sum({ fromMs: 0, toMs: T })).toMatchObject([{ spanMs: 1 }]);
    });
  });
}
