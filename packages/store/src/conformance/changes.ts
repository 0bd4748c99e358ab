import { Generation, NodeId, type Sandbox, type WakeBudget } from '@torpor/contracts';
import { describe, expect, it } from 'vitest';
import { T, type Stage } from './stage.ts';

export function describeChanges(stage: Stage): void {
  const { word, fresh, sandboxIn, insert, ready, next } = stage;

  describe('the scheduler’s changes', () => {
    it('are fenced: an incarnation that is no longer the sandbox’s changes nothing', async () => {
      const ws = fresh();
      const old = await ready(sandboxIn(ws.name));
      const moved = await stage.store.wanted.supersede(old, {
        ...next(old),
        nodeId: NodeId.parse('node-b'),
        from: 'ready',
        atMs: T + 1,
        reason: 'moved',
      });
      expect(moved).toMatchObject({ generation: 2, nodeId: 'node-b', phase: 'creating', name: old.name });
      expect(await stage.store.wanted.becameReady(old, T)).toBeUndefined();
      expect(await stage.store.wanted.fail(old, { reason: 'late', atMs: T })).toBeUndefined();
      expect(await stage.store.wanted.abandon(old, { reason: 'late', atMs: T })).toBe(false);
      expect(
        await stage.store.wanted.supersede(old, {
          ...next(old),
          nodeId: old.nodeId,
          from: 'ready',
          atMs: T,
          reason: 'late',
        }),
      ).toBeUndefined();
      expect(
        await stage.store.wanted.terminate(ws.name, old.name, { reason: 'late', atMs: T, who: old }),
      ).toBeUndefined();
      expect(moved && (await stage.store.wanted.becameReady(moved, T + 2))?.phase).toBe('ready');
    });

    it('raise the generation of a ready one in place, and book what was metered before under the older one', async () => {
      const ws = fresh();
      const before = await ready(sandboxIn(ws.name));
      const generation = Generation.parse(before.generation + 1);
      const raised = await stage.store.wanted.raise(before, { generation, atMs: T + 1 });
      expect(raised).toMatchObject({ instanceId: before.instanceId, generation, phase: 'ready', updatedAtMs: T + 1 });
      expect(await stage.store.wanted.raise(before, { generation, atMs: T + 2 })).toBeUndefined();
      expect(raised && (await stage.store.wanted.raise(raised, { generation, atMs: T + 2 }))).toBeUndefined();
      expect(await stage.store.wanted.endings({ instanceIds: [before.instanceId] })).toEqual([]);
      const { instanceId, nodeId } = before;
      const used = { cpuMs: 1, memoryMibMs: 1, egressBytes: 0, diskMib: 1, tier: 'running' as const };
      const interval = { workspace: ws.name, instanceId, sequence: 0, fromMs: T, toMs: T + 1, ...used };
      const older = { ...interval, generation: before.generation };
      const never = { ...interval, generation: Generation.parse(before.generation + 2) };
      expect(await stage.store.usage.book(nodeId, [older, never])).toEqual({ booked: 1, refused: [instanceId] });
      const later = { ...interval, generation, sequence: 1, fromMs: T + 1, toMs: T + 2, tier: 'paused' as const };
      await stage.store.usage.book(nodeId, [later]);
      const stretches = [
        { tier: 'running', fromMs: T, toMs: T + 1 },
        { tier: 'paused', fromMs: T + 1, toMs: T + 2 },
      ];
      expect(await ws.usage.stretches({ instanceId, limit: 9 })).toEqual(stretches);
      expect(await ws.usage.stretches({ instanceId, limit: 1 })).toEqual(stretches.slice(1));
      expect(await fresh().usage.stretches({ instanceId, limit: 9 })).toEqual([]);
      const coming = await insert(sandboxIn(ws.name));
      expect(await stage.store.wanted.raise(coming, { generation, atMs: T })).toBeUndefined();
    });

    it('remember of what a fork was made, until it is made anew', async () => {
      const ws = fresh();
      const parent = await ready(sandboxIn(ws.name));
      const origin = { instanceId: parent.instanceId, name: parent.name, snapshot: 'habcdefgh-1' };
      const fork = await ready({ ...sandboxIn(ws.name), origin });
      expect((await ws.sandboxes.get(fork.name, T))?.origin).toEqual(origin);
      expect((await ws.sandboxes.get(parent.name, T))?.origin).toBeUndefined();
      expect((await ws.sandboxes.forksOf(parent.instanceId)).map(({ name }) => name)).toEqual([fork.name]);
      expect(await fresh().sandboxes.forksOf(parent.instanceId)).toEqual([]);
      const anew = { ...next(fork), nodeId: fork.nodeId, atMs: T, reason: 'env', from: 'ready' } as const;
      const moved = await stage.store.wanted.supersede(fork, anew);
      expect([moved?.phase, moved?.origin]).toEqual(['creating', undefined]);
    });

    it('made for one phase leave a sandbox alone that is in another by now', async () => {
      const ws = fresh();
      const answered = await ready(sandboxIn(ws.name));
      const move = { ...next(answered), nodeId: answered.nodeId, atMs: T, reason: 'not started in time' };
      expect(await stage.store.wanted.supersede(answered, { ...move, from: 'creating' })).toBeUndefined();
      expect(
        await stage.store.wanted.fail(answered, { reason: 'not started', atMs: T, from: 'creating' }),
      ).toBeUndefined();
      expect(await stage.store.wanted.endings({ instanceIds: [answered.instanceId] })).toEqual([]);
      const coming = await insert(sandboxIn(ws.name));
      const restart = { ...next(coming), nodeId: coming.nodeId, atMs: T, reason: 'env' };
      expect(await stage.store.wanted.supersede(coming, { ...restart, from: 'ready' })).toBeUndefined();
      expect(await stage.store.wanted.fail(coming, { reason: 'not started', atMs: T, from: 'creating' })).toMatchObject(
        {
          phase: 'failed',
        },
      );
    });

    it('write down in the same commit which incarnation must end, and where', async () => {
      const ws = fresh();
      const endingsOf = async (sandbox: Sandbox) => stage.store.wanted.endings({ instanceIds: [sandbox.instanceId] });
      const moved = await ready(sandboxIn(ws.name));
      await stage.store.wanted.supersede(moved, {
        ...next(moved),
        nodeId: NodeId.parse('node-b'),
        from: 'ready',
        atMs: T + 1,
        reason: 'moved',
      });
      expect(await endingsOf(moved)).toEqual([
        {
          instanceId: moved.instanceId,
          generation: 1,
          nodeId: 'node-a',
          workspace: ws.name,
          reason: 'moved',
          sinceMs: T + 1,
        },
      ]);
      const abandoned = await insert(sandboxIn(ws.name));
      expect(await stage.store.wanted.abandon(abandoned, { reason: 'no image', atMs: T })).toBe(true);
      expect(await ws.sandboxes.get(abandoned.name, T)).toBeUndefined();
      expect(await endingsOf(abandoned)).toMatchObject([{ reason: 'no image' }]);
      const failed = await ready(sandboxIn(ws.name));
      expect(await stage.store.wanted.fail(failed, { reason: 'its node lost it', atMs: T })).toMatchObject({
        phase: 'failed',
        reason: 'its node lost it',
      });
      expect(await endingsOf(failed)).toMatchObject([{ reason: 'its node lost it' }]);
      const deleted = await ready(sandboxIn(ws.name));
      await stage.store.wanted.terminate(ws.name, deleted.name, { reason: 'asked', atMs: T });
      expect(await endingsOf(deleted)).toMatchObject([{ reason: 'asked', nodeId: 'node-a' }]);
    });

    it('leave the files of one that failed with its node, until it is terminated', async () => {
      const ws = fresh();
      const broken = await ready(sandboxIn(ws.name));
      const endings = () => stage.store.wanted.endings({ instanceIds: [broken.instanceId] });
      const held = async () =>
        (await stage.store.wanted.onNode(broken.nodeId)).filter((one) => one.instanceId === broken.instanceId);
      expect(await stage.store.wanted.failKept(broken, { reason: 'killed', atMs: T })).toMatchObject({
        phase: 'failed',
      });
      expect(await stage.store.wanted.failKept(broken, { reason: 'again', atMs: T })).toBeUndefined();
      expect([await endings(), await held()]).toMatchObject([[], [{ phase: 'failed' }]]);
      await stage.store.wanted.terminate(ws.name, broken.name, { reason: 'asked', atMs: T });
      expect([await endings(), await held()]).toMatchObject([[{ reason: 'asked' }], []]);
    });

    it('keep the first reason when a failed sandbox is terminated, and know it still as taken before', async () => {
      const ws = fresh();
      const failed = await ready(sandboxIn(ws.name));
      await stage.store.wanted.fail(failed, { reason: 'lost', atMs: T });
      expect(await stage.store.wanted.living(ws.name, failed.name)).toBeUndefined();
      const again = await stage.store.wanted.insert(sandboxIn(ws.name, { name: failed.name }), {});
      expect(again).toMatchObject({ kind: 'taken', sandbox: { phase: 'failed' } });
      expect(await stage.store.wanted.terminate(ws.name, failed.name, { reason: 'replaced', atMs: T })).toMatchObject({
        phase: 'terminated',
      });
      expect(await stage.store.wanted.endings({ instanceIds: [failed.instanceId] })).toMatchObject([
        { reason: 'lost' },
      ]);
    });

    it('an ending that was confirmed is no longer open, but known for a while', async () => {
      const ws = fresh();
      const gone = await ready(sandboxIn(ws.name, { nodeId: NodeId.parse('node-b') }));
      await stage.store.wanted.terminate(ws.name, gone.name, { reason: 'asked', atMs: T });
      const open = async () =>
        (await stage.store.wanted.endings({ nodeId: gone.nodeId })).some((e) => e.instanceId === gone.instanceId);
      expect(await open()).toBe(true);
      await stage.store.wanted.ended(gone, T + 5);
      await stage.store.wanted.ended(gone, T + 9);
      expect(await open()).toBe(false);
      expect(await stage.store.wanted.endings({ instanceIds: [gone.instanceId] })).toMatchObject([
        { endedAtMs: T + 5 },
      ]);
      await stage.store.wanted.sweep({ nowMs: T, endedBeforeMs: T + 5 });
      expect(await stage.store.wanted.endings({ instanceIds: [gone.instanceId] })).toHaveLength(1);
      await stage.store.wanted.sweep({ nowMs: T, endedBeforeMs: T + 6 });
      expect(await stage.store.wanted.endings({ instanceIds: [gone.instanceId] })).toHaveLength(0);
    });

    it('never abandon a sandbox that was answered once, though it is being made anew', async () => {
      const ws = fresh();
      const old = await ready(sandboxIn(ws.name));
      const anew = await stage.store.wanted.supersede(old, {
        ...next(old),
        nodeId: old.nodeId,
        from: 'ready',
        atMs: T - 500,
        reason: 'env',
      });
      expect(anew && (await stage.store.wanted.abandon(anew, { reason: 'stuck', atMs: T }))).toBe(false);
      const stuck = (await stage.store.wanted.stuckCreating(T - 499)).filter(
        (one) => one.sandbox.workspace === ws.name,
      );
      expect(stuck).toEqual([{ sandbox: anew, wasReady: true }]);
    });

    it('revise only what is given', async () => {
      const ws = fresh();
      const sandbox = await ready(
        sandboxIn(ws.name, { displayName: 'old', labels: { a: '1' }, expiry: { maxAgeMs: 5 } }),
      );
      const revised = await stage.store.wanted.revise(
        ws.name,
        sandbox.name,
        { labels: { b: '2' }, expiry: {}, idle: { kind: 'never' } },
        T + 3,
      );
      expect(revised).toMatchObject({ displayName: 'old', updatedAtMs: T + 3, phase: 'ready' });
      expect([revised?.labels, revised?.expiry, revised?.idle]).toEqual([{ b: '2' }, {}, { kind: 'never' }]);
      expect(await ws.sandboxes.get(sandbox.name, T)).toEqual(revised);
    });

    it('give a wake budget of its own, and take it away again', async () => {
      const ws = fresh();
      const sandbox = await ready(sandboxIn(ws.name, { wakeBudget: { kind: 'cheapest' } }));
      const budgets = async () => [
        (await ws.sandboxes.get(sandbox.name, T))?.wakeBudget,
        (await stage.store.wanted.onNode(sandbox.nodeId)).find(({ name }) => name === sandbox.name)?.wakeBudget,
      ];
      const revise = (wakeBudget: WakeBudget | null) =>
        stage.store.wanted.revise(ws.name, sandbox.name, { wakeBudget }, T + 3);
      expect(await budgets()).toEqual([{ kind: 'cheapest' }, { kind: 'cheapest' }]);
      await revise({ kind: 'p99', ms: 25 });
      expect(await budgets()).toEqual([
        { kind: 'p99', ms: 25 },
        { kind: 'p99', ms: 25 },
      ]);
      await revise(null);
      expect(await budgets()).toEqual([undefined, undefined]);
    });

    it('replace the env when a sandbox is restarted with another, and keep it otherwise', async () => {
      const ws = fresh();
      const first = sandboxIn(ws.name, { envNames: ['A'] });
      await insert(first, { A: '1' });
      const second = await stage.store.wanted.supersede(first, {
        ...next(first),
        nodeId: first.nodeId,
        from: 'creating',
        atMs: T,
        reason: 'env',
        env: { C: '3', B: '2' },
      });
      expect(second?.envNames).toEqual(['B', 'C']);
      const third =
        second &&
        (await stage.store.wanted.supersede(second, {
          ...next(second),
          nodeId: first.nodeId,
          from: 'creating',
          atMs: T,
          reason: 'move',
        }));
      expect(third && (await stage.store.wanted.envOf(third))).toEqual({ B: '2', C: '3' });
      expect(await stage.store.wanted.envOf(first)).toBeUndefined();
    });

    it('note use forwards only, and only of the incarnation that was used', async () => {
      const ws = fresh();
      const sandbox = await ready(sandboxIn(ws.name));
      const used = async () => (await ws.sandboxes.get(sandbox.name, T))?.lastUsedAtMs;
      await stage.store.wanted.noteUse([{ ...sandbox, lastUsedAtMs: T + 50 }]);
      await stage.store.wanted.noteUse([{ ...sandbox, lastUsedAtMs: T + 20 }]);
      await stage.store.wanted.noteUse([{ ...next(sandbox), lastUsedAtMs: T + 99 }]);
      expect(await used()).toBe(T + 50);
    });

    it('show what lives where, what may expire and what is stuck', async () => {
      const ws = fresh();
      const nodeId = NodeId.parse(word('node-'));
      const creating = await insert(sandboxIn(ws.name, { nodeId, updatedAtMs: T - 100 }));
      const expiring = await ready(sandboxIn(ws.name, { nodeId, expiry: { idleMs: 1 } }));
      const gone = await ready(sandboxIn(ws.name, { nodeId, expiry: { idleMs: 1 } }));
      await stage.store.wanted.terminate(ws.name, gone.name, { reason: 'asked', atMs: T });
      const ids = (list: readonly Pick<Sandbox, 'workspace' | 'instanceId'>[]) =>
        list
          .filter((s) => s.workspace === ws.name)
          .map((s) => s.instanceId)
          .sort();
      expect(ids(await stage.store.wanted.onNode(nodeId))).toEqual([creating.instanceId, expiring.instanceId].sort());
      const { instanceId, generation, name, idle, expiry, lastUsedAtMs } = creating;
      expect((await stage.store.wanted.onNode(nodeId)).find((one) => one.name === name)).toEqual({
        ...{ instanceId, generation, nodeId, workspace: ws.name, name, phase: 'creating' },
        ...{ idle, expiry, lastUsedAtMs, memoryMib: 512 },
      });
      expect(ids(await stage.store.wanted.expiring())).toEqual([expiring.instanceId]);
      const stuck = async (beforeMs: number) =>
        ids((await stage.store.wanted.stuckCreating(beforeMs)).map((one) => one.sandbox));
      expect([await stuck(T - 99), await stuck(T - 100)]).toEqual([[creating.instanceId], []]);
      expect((await stage.store.wanted.load()).filter((load) => load.nodeId === nodeId)).toEqual([
        { nodeId, living: 2, memoryMib: 1024 },
      ]);
    });

    it('sweep terminated rows past their retention', async () => {
      const ws = fresh();
      const gone = await ready(sandboxIn(ws.name, { terminatedRetentionMs: 10 }));
      await stage.store.wanted.terminate(ws.name, gone.name, { reason: 'asked', atMs: T });
      await stage.store.wanted.sweep({ nowMs: T + 9, endedBeforeMs: 0 });
      expect(await ws.sandboxes.get(gone.name, T)).toBeDefined();
      expect(await stage.store.wanted.sweep({ nowMs: T + 10, endedBeforeMs: 0 })).toBeGreaterThanOrEqual(1);
      expect(await ws.sandboxes.get(gone.name, T)).toBeUndefined();
    });
  });
}
