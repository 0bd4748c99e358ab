import { describe, expect, it } from 'vitest';
import type { SnapshotRecord } from '../store.ts';
import { T, type Stage } from './stage.ts';

export function describeSnapshots(stage: Stage): void {
  const { fresh, sandboxIn, insert, ready, word, next } = stage;
  const recordOf = (sandbox: SnapshotRecord['sandbox'], more: Partial<SnapshotRecord> = {}): SnapshotRecord => {
    return { id: word('image-'), name: 'then', atMs: T, bytes: 5, by: 'user:ada', sandbox, ...more };
  };
  const end = (sandbox: SnapshotRecord['sandbox'], more: { keepSnapshots?: boolean } = {}) =>
    stage.store.wanted.terminate(sandbox.workspace, sandbox.name, { reason: 'asked', atMs: T + 1, ...more });

  describe('the record of snapshots', () => {
    it('has those of sandboxes that are ready, with the env that these have', async () => {
      const ws = fresh();
      const sandbox = await insert(sandboxIn(ws.name), { A: '1' });
      expect(await stage.store.snapshots.put(recordOf(sandbox))).toBe(false);
      await stage.store.wanted.becameReady(sandbox, T);
      const record = recordOf(sandbox);
      expect(await stage.store.snapshots.put(record)).toBe(true);
      expect(await stage.store.snapshots.put(record)).toBe(true);
      expect(await stage.store.snapshots.find(ws.name, record.id)).toEqual(record);
      expect(await stage.store.snapshots.envOf(ws.name, record.id)).toEqual({ A: '1' });
      expect(await ws.snapshots.list()).toEqual([record]);
    });

    it('knows the limits of a sandbox for them, and changes them', async () => {
      const ws = fresh();
      const sandbox = await ready(sandboxIn(ws.name, { snapshotLimits: { askedMax: 2 } }));
      expect((await ws.sandboxes.get(sandbox.name, T))?.snapshotLimits).toEqual({ askedMax: 2 });
      await stage.store.wanted.revise(ws.name, sandbox.name, { snapshotLimits: { askedMs: 60_000 } }, T);
      expect((await ws.sandboxes.get(sandbox.name, T))?.snapshotLimits).toEqual({ askedMs: 60_000 });
    });

    it('shows them to nobody else', async () => {
      const [ws, other] = [fresh(), fresh()];
      const record = recordOf(await ready(sandboxIn(ws.name)));
      await stage.store.snapshots.put(record);
      expect(await stage.store.snapshots.find(other.name, record.id)).toBeUndefined();
      expect(await stage.store.snapshots.envOf(other.name, record.id)).toBeUndefined();
      expect(await stage.store.snapshots.drop(other.name, record.id)).toBeUndefined();
      expect(await other.snapshots.list()).toEqual([]);
    });

    it('lets them go with their sandbox, and by themselves', async () => {
      const ws = fresh();
      const sandbox = await ready(sandboxIn(ws.name));
      const [one, two] = [recordOf(sandbox), recordOf(sandbox, { atMs: T + 1 })];
      for (const record of [one, two]) await stage.store.snapshots.put(record);
      expect(await stage.store.snapshots.drop(ws.name, one.id)).toEqual(one);
      expect(await stage.store.snapshots.drop(ws.name, one.id)).toBeUndefined();
      await end(sandbox);
      expect(await ws.snapshots.list()).toEqual([]);
      expect(await stage.store.snapshots.find(ws.name, two.id)).toBeUndefined();
      await stage.store.wanted.sweep({ nowMs: T, endedBeforeMs: T });
      expect(await stage.store.snapshots.drop(ws.name, two.id)).toBeUndefined();
    });

    it('keeps them beyond their sandbox where that is asked, and its ending says which', async () => {
      const ws = fresh();
      const sandbox = await ready(sandboxIn(ws.name));
      const record = recordOf(sandbox);
      await stage.store.snapshots.put(record);
      const before = await stage.store.snapshots.keptOn(sandbox.nodeId);
      await end(sandbox, { keepSnapshots: true });
      expect(await stage.store.snapshots.keptOn(sandbox.nodeId)).toBe(before + 1);
      expect(await stage.store.wanted.endings({ instanceIds: [sandbox.instanceId] })).toMatchObject([
        { keep: [record.id] },
      ]);
      await stage.store.wanted.sweep({ nowMs: T + 1e9, endedBeforeMs: T });
      const kept = { ...record, keptSinceMs: T + 1 };
      expect(await ws.snapshots.list()).toEqual([kept]);
      expect(await stage.store.snapshots.envOf(ws.name, record.id)).toEqual({});
    });

    it('keeps them beyond an incarnation that another one follows, with its env, and its ending says which', async () => {
      const ws = fresh();
      const sandbox = await insert(sandboxIn(ws.name), { A: '1' });
      await stage.store.wanted.becameReady(sandbox, T);
      const record = recordOf(sandbox);
      await stage.store.snapshots.put(record);
      const { nodeId, instanceId } = sandbox;
      const successor = {
        ...next(sandbox),
        nodeId,
        atMs: T + 1,
        reason: 'env',
        env: { A: '2' },
        from: 'ready',
      } as const;
      await stage.store.wanted.supersede(sandbox, successor);
      expect(await stage.store.wanted.endings({ instanceIds: [instanceId] })).toMatchObject([{ keep: [record.id] }]);
      await stage.store.wanted.sweep({ nowMs: T, endedBeforeMs: T });
      expect(await ws.snapshots.list()).toEqual([{ ...record, keptSinceMs: T + 1 }]);
      expect(await stage.store.snapshots.envOf(ws.name, record.id)).toEqual({ A: '1' });
    });

    it('keeps none of a sandbox whose node has been told to end it wholly already', async () => {
      const ws = fresh();
      const sandbox = await ready(sandboxIn(ws.name));
      await stage.store.snapshots.put(recordOf(sandbox));
      await stage.store.wanted.fail(sandbox, { reason: 'its node has lost it', atMs: T });
      await end(sandbox, { keepSnapshots: true });
      expect(await ws.snapshots.list()).toEqual([]);
    });
  });
}
