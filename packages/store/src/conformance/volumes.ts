import {
  NodeId,
  SandboxName,
  VolumeId,
  VolumeName,
  Generation,
  InstanceId,
  type Sandbox,
  type Volume,
  type WorkspaceName,
} from '@torpor/contracts';
import { describe, expect, it } from 'vitest';
import { T, type Stage } from './stage.ts';

export function describeVolumes(stage: Stage): void {
  const { word, fresh, sandboxIn, ready } = stage;
  const book = () => stage.store.volumes;

  const volumeIn = (workspace: WorkspaceName, more: Partial<Volume> = {}): Volume => ({
    id: VolumeId.parse(word('volumeid')),
    workspace,
    name: VolumeName.parse(word('disk-')),
    kind: 'volume',
    sizeMib: 100,
    nodeId: NodeId.parse('node-a'),
    generation: Generation.parse(1),
    phase: 'creating',
    createdAtMs: T,
    updatedAtMs: T,
    createdBy: 'user:ada',
    ...more,
  });
  const readyVolume = async (volume: Volume): Promise<Volume> => {
    expect(await book().insert(volume)).toEqual({ kind: 'inserted' });
    const made = await book().becameReady(volume.id, T);
    if (!made) throw new Error('it did not become ready');
    return made;
  };
  const to = ({ instanceId, name: sandbox }: Sandbox) => ({ instanceId, sandbox, path: '/data' });

  describe('volumes', () => {
    it('keep their sandbox where it is, and come to none that is on its way to another node', async () => {
      const ws = fresh();
      const [sandbox, traveller] = [await ready(sandboxIn(ws.name)), await ready(sandboxIn(ws.name))];
      const move = { to: NodeId.parse('node-b'), reason: 'asked', atMs: T };
      const volume = await readyVolume(volumeIn(ws.name));
      expect((await stage.store.moves.begin(traveller, move))?.kind).toBe('begun');
      expect(await book().attach(volume.id, to(traveller), T)).toBeUndefined();
      expect(await book().attach(volume.id, to(sandbox), T)).toMatchObject({ attachment: { state: 'attaching' } });
      expect(await stage.store.moves.begin(sandbox, move)).toBeUndefined();
      const other = await readyVolume(volumeIn(ws.name));
      const gone = await stage.store.moves.commit(traveller, T + 1);
      expect(gone && (await book().attach(other.id, to(gone), T + 1))).toBeUndefined();
    });

    it('are made once by name, listed by name, and nobody else’s', async () => {
      const [ws, other] = [fresh(), fresh()];
      const origin = { volume: VolumeId.parse(word('volumeid')), name: VolumeName.parse('before') };
      const b = volumeIn(ws.name, { name: VolumeName.parse('b'), origin, kind: 'snapshot' });
      const a = volumeIn(ws.name, { name: VolumeName.parse('a') });
      expect(await book().insert(b)).toEqual({ kind: 'inserted' });
      expect(await book().insert(a)).toEqual({ kind: 'inserted' });
      expect(await book().insert({ ...a, id: VolumeId.parse(word('volumeid')) })).toEqual({ kind: 'taken', volume: a });
      expect(await ws.volumes.list()).toEqual([a, b]);
      expect([await ws.volumes.get(b.name), await other.volumes.get(b.name)]).toEqual([b, undefined]);
      expect(await other.volumes.list()).toEqual([]);
      expect(await book().becameReady(a.id, T + 1)).toEqual({ ...a, phase: 'ready', updatedAtMs: T + 1 });
      expect(await book().becameReady(a.id, T + 2)).toBeUndefined();
      expect(await book().resize(a.id, 200, T + 3)).toMatchObject({ sizeMib: 200, generation: 1 });
      expect(await book().resize(b.id, 200, T + 3)).toBeUndefined();
    });

    it('are one sandbox’s at most, each time under a new generation, and a snapshot nobody’s', async () => {
      const ws = fresh();
      const [one, two] = [await ready(sandboxIn(ws.name)), await ready(sandboxIn(ws.name))];
      const volume = await readyVolume(volumeIn(ws.name));
      const got = await Promise.all([book().attach(volume.id, to(one), T), book().attach(volume.id, to(two), T)]);
      expect(got.filter(Boolean)).toHaveLength(1);
      const [given] = got.filter((each) => each !== undefined);
      if (!given?.attachment) throw new Error('nobody has it');
      expect(given).toMatchObject({ generation: 2, attachment: { path: '/data', state: 'attaching' } });
      expect(await book().of(given.attachment.instanceId)).toEqual([given]);
      expect(await book().attached({ ...given, generation: volume.generation }, T)).toBeUndefined();
      expect(await book().attached(given, T + 1)).toMatchObject({ attachment: { state: 'attached' }, generation: 2 });
      expect(await book().beginDelete(volume.id, T)).toBeUndefined();
      const staying = await book().detach(volume.id, T + 2);
      expect(staying).toMatchObject({ attachment: { state: 'detaching' }, generation: 3 });
      expect(staying && (await book().attached(staying, T))?.attachment).toEqual({
        ...to(one),
        ...given.attachment,
        state: 'attached',
      });
      const leaving = await book().detach(volume.id, T + 2);
      expect(await book().detached(given, T + 3)).toBeUndefined();
      expect(leaving && (await book().detached(leaving, T + 3))).toEqual({
        ...volume,
        generation: 4,
        updatedAtMs: T + 3,
      });
      expect(await book().detach(volume.id, T)).toBeUndefined();
      const snapshot = await readyVolume(volumeIn(ws.name, { kind: 'snapshot' }));
      expect(await book().attach(snapshot.id, to(one), T)).toBeUndefined();
    });

    it('go only when they are free, and only once it was begun', async () => {
      const ws = fresh();
      const volume = await readyVolume(volumeIn(ws.name));
      await book().remove(volume.id);
      expect(await ws.volumes.list()).toEqual([volume]);
      expect(await book().beginDelete(volume.id, T)).toMatchObject({ phase: 'deleting', generation: 2 });
      expect(await book().attach(volume.id, to(await ready(sandboxIn(ws.name))), T)).toBeUndefined();
      await book().remove(volume.id);
      expect(await ws.volumes.list()).toEqual([]);
    });

    it('are free again when their sandbox has ended and its node has said so; a fork’s own are to go', async () => {
      const ws = fresh();
      const sandbox = await ready(sandboxIn(ws.name));
      const volume = await readyVolume(volumeIn(ws.name));
      await book().attach(volume.id, to(sandbox), T);
      const attachment = { ...to(sandbox), path: '/own', state: 'attaching' as const };
      const own = volumeIn(ws.name, { isForks: true, attachment });
      expect(await book().insert(own)).toEqual({ kind: 'inserted' });
      await book().attachedWith(sandbox.instanceId, T + 1);
      expect((await ws.volumes.list()).map(({ phase, attachment: at }) => [phase, at?.state])).toEqual([
        ['ready', 'attached'],
        ['ready', 'attached'],
      ]);
      const unsettled = async () => (await book().unsettled(T + 9)).filter(({ workspace }) => workspace === ws.name);
      expect(await unsettled()).toEqual([]);
      await stage.store.wanted.terminate(ws.name, sandbox.name, { reason: 'asked', atMs: T });
      expect([await book().release(sandbox.instanceId, T), await unsettled()]).toEqual([[], []]);
      await stage.store.wanted.ended(sandbox, T);
      expect((await unsettled()).map(({ id }) => id).sort()).toEqual([own.id, volume.id].sort());
      const released = await book().release(sandbox.instanceId, T + 2);
      expect(released.map(({ id, phase, attachment: at }) => [id, phase, at]).sort()).toEqual(
        [
          [own.id, 'deleting', undefined],
          [volume.id, 'ready', undefined],
        ].sort(),
      );
      expect((await unsettled()).map(({ id }) => id)).toEqual([own.id]);
      expect(await book().unsettled(T + 2)).not.toContainEqual(expect.objectContaining({ id: own.id }));
    });

    it('are kept from a fork when they are detached from it', async () => {
      const ws = fresh();
      const sandbox = await ready(sandboxIn(ws.name));
      const own = volumeIn(ws.name, { isForks: true, attachment: { ...to(sandbox), state: 'attaching' } });
      await book().insert(own);
      await book().attachedWith(sandbox.instanceId, T);
      const leaving = await book().detach(own.id, T);
      expect(leaving && (await book().detached(leaving, T))?.isForks).toBeUndefined();
    });

    it('go with a sandbox into its next incarnation', async () => {
      const ws = fresh();
      const sandbox = await ready(sandboxIn(ws.name, { name: SandboxName.parse(word('box-')) }));
      const volume = await readyVolume(volumeIn(ws.name));
      await book().attach(volume.id, to(sandbox), T);
      await book().attachedWith(sandbox.instanceId, T);
      const next = stage.next(sandbox);
      const more = { nodeId: sandbox.nodeId, atMs: T + 5, reason: 'restarted', from: 'ready' as const };
      await stage.store.wanted.supersede(sandbox, { ...next, ...more });
      expect(await book().of(sandbox.instanceId)).toEqual([]);
      expect(await book().of(next.instanceId)).toMatchObject([
        { id: volume.id, generation: 3, attachment: { state: 'attaching', path: '/data' } },
      ]);
      await stage.store.wanted.ended(sandbox, T + 6);
      expect(await book().release(sandbox.instanceId, T + 6)).toEqual([]);
    });

    it('are metered by their id, for their workspace and on their node alone', async () => {
      const ws = fresh();
      const volume = await readyVolume(volumeIn(ws.name));
      await book().insert(volumeIn(ws.name));
      expect((await book().metered()).filter(({ workspace }) => workspace === ws.name)).toEqual([
        { id: volume.id, workspace: ws.name, nodeId: volume.nodeId },
      ]);
      const minute = {
        ...{
          workspace: ws.name,
          instanceId: InstanceId.parse(volume.id),
          generation: Generation.parse(1),
          sequence: 7,
        },
        ...{ fromMs: T, toMs: T + 10, tier: 'volume' as const, cpuMs: 0, memoryMibMs: 0, egressBytes: 0, diskMib: 5 },
      };
      const twice = [
        await stage.store.usage.book(volume.nodeId, [minute]),
        await stage.store.usage.book(volume.nodeId, [minute]),
      ];
      expect(twice.map(({ booked }) => booked)).toEqual([1, 0]);
      expect(await stage.store.usage.book(NodeId.parse('node-b'), [{ ...minute, sequence: 8 }])).toMatchObject({
        booked: 0,
      });
      expect(
        await stage.store.usage.book(volume.nodeId, [{ ...minute, sequence: 8, workspace: fresh().name }]),
      ).toMatchObject({
        booked: 0,
      });
      expect(await ws.usage.sum({ fromMs: T, toMs: T + 1 })).toMatchObject([{ tier: 'volume', diskMibMs: 50 }]);
    });

    it('are promised whole on their node, snapshots not', async () => {
      const ws = fresh();
      const nodeId = NodeId.parse('node-of-volumes');
      await book().insert(volumeIn(ws.name, { nodeId, sizeMib: 300 }));
      await book().insert(volumeIn(ws.name, { nodeId, sizeMib: 200 }));
      await book().insert(volumeIn(ws.name, { nodeId, sizeMib: 200, kind: 'snapshot' }));
      expect(await book().promised()).toContainEqual({ nodeId, sizeMib: 500 });
    });
  });
}
