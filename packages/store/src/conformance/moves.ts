import { Generation, NodeId } from '@torpor/contracts';
import { describe, expect, it } from 'vitest';
import { T, type Stage } from './stage.ts';

export function describeMoves(stage: Stage): void {
  const to = NodeId.parse('node-b');
  const move = { to, reason: 'asked', atMs: T + 1 };
  const begun = async () => {
    const sandbox = await stage.ready(stage.sandboxIn(stage.fresh().name));
    const answer = await stage.store.moves.begin(sandbox, move);
    if (!answer) throw new Error('a ready sandbox could not begin to move');
    return { sandbox, answer };
  };
  const endingsOf = async ({ instanceId }: Parameters<typeof stage.store.moves.cancel>[0]) =>
    (await stage.store.wanted.endings({ instanceIds: [instanceId] })).map(({ generation, nodeId }) => [
      generation,
      nodeId,
    ]);

  describe('moves', () => {
    it('gives a sandbox another node and the next generation, and has the old incarnation ended, in one commit', async () => {
      const { sandbox, answer } = await begun();
      const next = { ...sandbox, generation: 2, nodeId: to };
      expect(answer).toMatchObject({ kind: 'begun', move: { nextGeneration: 2, from: 'node-a', to } });
      expect(await endingsOf(sandbox)).toEqual([]);
      expect(await stage.store.moves.commit(sandbox, T + 2)).toEqual({ ...next, phase: 'ready', updatedAtMs: T + 2 });
      expect(await endingsOf(sandbox)).toEqual([[1, 'node-a']]);
      expect((await stage.store.moves.open()).map(({ instanceId }) => instanceId)).not.toContain(sandbox.instanceId);
      expect(await stage.store.moves.commit(sandbox, T + 3)).toBeUndefined();
    });

    it('begins once, and tells of the one that there is', async () => {
      const { sandbox, answer } = await begun();
      expect(await stage.store.moves.begin(sandbox, { ...move, reason: 'again' })).toEqual({
        ...answer,
        kind: 'there',
      });
    });

    it('once cancelled is never committed, and what came to the other node is ended; the next try has a greater generation', async () => {
      const { sandbox } = await begun();
      await stage.store.moves.cancel(sandbox, { reason: 'no room', atMs: T + 2 });
      expect(await stage.store.moves.commit(sandbox, T + 3)).toBeUndefined();
      expect(await endingsOf(sandbox)).toEqual([[2, 'node-b']]);
      expect(await stage.store.moves.begin(sandbox, move)).toMatchObject({
        kind: 'there',
        move: { cancelled: 'no room' },
      });
      await stage.store.moves.over(sandbox);
      expect(await stage.store.moves.begin(sandbox, move)).toMatchObject({
        kind: 'begun',
        move: { nextGeneration: 3 },
      });
    });

    it('takes the record of its snapshots along', async () => {
      const { sandbox } = await begun();
      const id = stage.word('image-');
      await stage.store.snapshots.put({ id, atMs: T, sandbox });
      const placed = async () => (await stage.store.snapshots.find(sandbox.workspace, id))?.sandbox.nodeId;
      expect(await placed()).toBe('node-a');
      await stage.store.moves.commit(sandbox, T + 2);
      expect(await placed()).toBe(to);
      const late = stage.word('image-');
      await stage.store.snapshots.put({ id: late, atMs: T, sandbox });
      expect((await stage.store.snapshots.find(sandbox.workspace, late))?.sandbox.nodeId).toBe(to);
    });

    it('lets nobody raise its generation while it is on its way, nor to one that something has ended under', async () => {
      const { sandbox } = await begun();
      const raise = () => stage.store.wanted.raise(sandbox, { generation: Generation.parse(2), atMs: T + 2 });
      expect(await raise()).toBeUndefined();
      await stage.store.moves.cancel(sandbox, { reason: 'no room', atMs: T + 2 });
      expect(await raise()).toBeUndefined();
      await stage.store.moves.over(sandbox);
      expect(await raise()).toMatchObject({ generation: 3, nodeId: 'node-a' });
    });

    it('is not over before it was committed or cancelled', async () => {
      const { sandbox } = await begun();
      await stage.store.moves.over(sandbox);
      expect(await stage.store.moves.begin(sandbox, move)).toMatchObject({ kind: 'there' });
    });

    it('does not bring back a sandbox that was deleted meanwhile', async () => {
      const { sandbox } = await begun();
      await stage.store.wanted.terminate(sandbox.workspace, sandbox.name, { reason: 'deleted', atMs: T + 2 });
      expect(await stage.store.moves.commit(sandbox, T + 3)).toBeUndefined();
      expect(await stage.store.moves.cancel(sandbox, { reason: 'deleted', atMs: T + 3 })).toMatchObject({ to });
    });

    it('begins for nothing that is not ready', async () => {
      const sandbox = await stage.insert(stage.sandboxIn(stage.fresh().name));
      expect(await stage.store.moves.begin(sandbox, move)).toBeUndefined();
    });
  });

  describe('a node that is drained', () => {
    it('is so until it is not any more, whatever is heard of it', async () => {
      const node = await stage.store.fleet.get(to);
      if (!node) throw new Error('the stage has a node-b');
      expect(await stage.store.fleet.drain(to, T + 1)).toBe(true);
      await stage.store.fleet.heard({ ...node, heardAtMs: T + 10 });
      expect(await stage.store.fleet.get(to)).toMatchObject({ drainingSinceMs: T + 1, heardAtMs: T + 10 });
      await stage.store.fleet.drain(to, undefined);
      expect(await stage.store.fleet.get(to)).toEqual({ ...node, heardAtMs: T + 10 });
      expect(await stage.store.fleet.drain(NodeId.parse('nobody'), T)).toBe(false);
    });
  });
}
