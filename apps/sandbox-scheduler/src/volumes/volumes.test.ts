import {
  attachVolume,
  createVolume,
  deleteVolume,
  detachVolume,
  forkSandbox,
  resizeVolume,
  SandboxName,
  VolumeName,
  type Volume,
} from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  beat,
  beatFor,
  clock,
  create,
  end,
  forever,
  gateway,
  killRoom,
  name,
  nodes,
  reviveRoom,
  store,
  update,
  workspace,
} from '../testing/stage.ts';

const data = VolumeName.parse('data');
const other = SandboxName.parse('other');

const make = (more: object = {}) =>
  clock
    .until(gateway().ask(createVolume, { workspace, name: data, kind: 'volume', createdBy: 'user:ada', ...more }))
    .then(({ volume }) => volume);
const attach = (more: object = {}) =>
  clock.until(gateway().ask(attachVolume, { workspace, name: data, sandbox: name, path: '/data', ...more }));
const detach = () => clock.until(gateway().ask(detachVolume, { workspace, name: data }));
const resize = (sizeMib: number) => clock.until(gateway().ask(resizeVolume, { workspace, name: data, sizeMib }));
const remove = () => clock.until(gateway().ask(deleteVolume, { workspace, name: data }));
const row = (which = data) => store.workspace(workspace).volumes.get(which);
const volumes = [{ name: data, path: '/data' }];

describe('a volume', () => {
  it('is made on the node with the most room, in the size asked for, and its name is taken then', async () => {
    nodes.a.diskFreeMib = 10_000;
    await beat(nodes.a);
    const volume = await make({ sizeMib: 20_000 });
    expect(volume).toMatchObject({ name: data, sizeMib: 20_000, nodeId: 'b', phase: 'ready', generation: 1 });
    expect(nodes.b.volumeAsks).toEqual([`hold ${volume.id} 1`]);
    await expect(make()).rejects.toMatchObject({ code: 'conflict' });
  });

  it('is refused early, with figures, when no node can hold it beside the others, or grow to it', async () => {
    await expect(make({ sizeMib: 60_001 })).rejects.toMatchObject({ code: 'no_space', message: /60001 MiB/ });
    await make({ sizeMib: 50_000 });
    await make({ name: 'second', sizeMib: 50_000 });
    await expect(make({ name: 'third', sizeMib: 10_001 })).rejects.toMatchObject({ code: 'no_space' });
    await expect(resize(60_001)).rejects.toMatchObject({ code: 'no_space' });
    expect((await resize(55_000)).volume.sizeMib).toBe(55_000);
    expect(nodes.a.volumeAsks.filter((ask) => ask.startsWith('hold'))).toHaveLength(2);
  });

  it('that its node will not make is none, and its name is free', async () => {
    nodes.a.onVolume = async () => {
      throw new Failure('no_space', 'the pool is full');
    };
    await expect(make()).rejects.toMatchObject({ code: 'no_space', message: /the pool is full/ });
    nodes.a.onVolume = async () => {};
    await beatFor(30_000);
    expect(await row()).toBeUndefined();
    await make();
  });

  it('is copied on its node; a snapshot of it is attached nowhere', async () => {
    const volume = await make({ sizeMib: 300 });
    const snapshot = await make({ name: 'then', kind: 'snapshot', from: data });
    expect(snapshot).toMatchObject({ kind: 'snapshot', sizeMib: 300, nodeId: volume.nodeId, origin: { name: data } });
    const copy = await make({ name: 'again', from: 'then' });
    expect(copy).toMatchObject({ kind: 'volume', sizeMib: 300, nodeId: volume.nodeId });
    await create();
    await expect(attach({ name: 'then' })).rejects.toMatchObject({ code: 'bad_request', message: /is a snapshot/ });
    await expect(make({ name: 'less', from: data, sizeMib: 200 })).rejects.toMatchObject({ code: 'bad_request' });
  });
});

describe('metering', () => {
  it('books what a volume holds, minute by minute and once, whoever looks', async () => {
    await make();
    const from = clock.nowMs();
    await beatFor(90_000);
    killRoom();
    await reviveRoom();
    await beatFor(90_000);
    const sums = await store.workspace(workspace).usage.sum({ fromMs: from - 60_000, toMs: clock.nowMs() });
    expect(sums).toMatchObject([{ tier: 'volume', spanMs: 180_000, diskMibMs: 5 * 180_000 }]);
  });
});

describe('attaching', () => {
  let volume: Volume;
  beforeEach(async () => {
    volume = await make();
  });

  it('gives it to one sandbox at a time, under a new generation each time', async () => {
    await create();
    await create({ name: other });
    const given = (await attach()).volume;
    expect(given).toMatchObject({ generation: 2, attachment: { sandbox: name, path: '/data', state: 'attached' } });
    expect((await attach()).volume).toEqual(given);
    await expect(attach({ sandbox: other })).rejects.toMatchObject({
      code: 'conflict',
      message: /attached to the sandbox "box"/,
    });
    await expect(remove()).rejects.toMatchObject({ code: 'conflict' });
    expect((await detach()).volume).toMatchObject({ generation: 3 });
    expect((await attach({ sandbox: other })).volume).toMatchObject({ generation: 4, attachment: { sandbox: other } });
    expect(nodes.a.volumeAsks.slice(1)).toEqual([`give ${volume.id} 2`, `take ${volume.id} 3`, `give ${volume.id} 4`]);
  });

  it('leaves it free when it cannot be, and attached when it cannot be detached', async () => {
    await create();
    nodes.a.onVolume = async (what) => {
      if (what === 'give') throw new Failure('conflict', 'something else is there');
    };
    await expect(attach()).rejects.toMatchObject({ message: /something else/ });
    expect((await row())?.attachment).toBeUndefined();
    nodes.a.onVolume = async (what) => {
      if (what === 'take') throw new Failure('conflict', 'a program uses it');
    };
    await attach();
    await expect(detach()).rejects.toMatchObject({ code: 'conflict', message: /a program uses it/ });
    expect((await row())?.attachment?.state).toBe('attached');
  });

  it('is brought to its end when the scheduler dies in the middle', async () => {
    await create();
    nodes.a.onVolume = () => forever;
    gateway()
      .ask(attachVolume, { workspace, name: data, sandbox: name, path: '/data' })
      .catch(() => {}); // nobody answers it
    await clock.advance(1_000);
    killRoom();
    nodes.a.onVolume = async () => {};
    await reviveRoom();
    await beatFor(30_000);
    expect((await row())?.attachment?.state).toBe('attached');
  });

  it('to a sandbox of another node is refused, with what to do', async () => {
    nodes.a.memoryFreeMib = 100;
    await beat(nodes.a);
    await create();
    await expect(attach()).rejects.toMatchObject({ code: 'unprocessable', message: /created with the volume/ });
  });
});

describe('a sandbox that is created with volumes', () => {
  it('goes to their node, starts with them, and leaves them when it is deleted', async () => {
    nodes.a.diskFreeMib = 1_000;
    await beat(nodes.a);
    const volume = await make({ sizeMib: 5_000 });
    const { sandbox } = await create({ volumes });
    expect([sandbox.nodeId, nodes.b.starts.at(-1)?.volumes]).toEqual([
      'b',
      [{ volume: volume.id, generation: 2, path: '/data' }],
    ]);
    expect((await row())?.attachment).toEqual({
      instanceId: sandbox.instanceId,
      sandbox: name,
      path: '/data',
      state: 'attached',
    });
    await end();
    expect((await row())?.attachment).toBeUndefined();
  });

  it('is refused, and none is made, when one of them is another’s', async () => {
    await make();
    await create({ volumes });
    const ask = create({ name: other, volumes });
    await expect(ask).rejects.toMatchObject({ code: 'conflict', message: /attached to the sandbox "box"/ });
    expect((await create({ volumes, reuse: true })).kind).toBe('existing');
    expect(await store.wanted.living(workspace, other)).toBeUndefined();
    await expect(
      create({ name: other, volumes: [{ name: VolumeName.parse('none'), path: '/x' }] }),
    ).rejects.toMatchObject({
      code: 'not_found',
    });
  });

  it('that never starts leaves them free', async () => {
    await make();
    nodes.a.onStart = async () => {
      throw new Failure('unprocessable', 'not so');
    };
    await expect(create({ volumes })).rejects.toThrow(/not so/);
    await beatFor(30_000);
    expect((await row())?.attachment).toBeUndefined();
  });

  it('keeps them when it is restarted with another env, on their node', async () => {
    const volume = await make();
    await create({ volumes });
    nodes.b.memoryFreeMib = 8_000;
    await beat(nodes.b);
    const { sandbox } = await update({ env: { A: '2' } });
    expect([sandbox.nodeId, nodes.a.starts.at(-1)?.volumes]).toEqual([
      'a',
      [{ volume: volume.id, generation: 3, path: '/data' }],
    ]);
    await beatFor(10_000);
    expect((await row())?.attachment).toMatchObject({ instanceId: sandbox.instanceId, state: 'attached' });
  });

  it('has forks with copies of their own, which go with them', async () => {
    const volume = await make({ sizeMib: 300 });
    await create({ volumes });
    nodes.a.snapshotVolumes = [{ volume: volume.id, generation: volume.generation, path: '/data', sizeMib: 300 }];
    await clock.until(gateway().ask(forkSandbox, { workspace, name, as: other, env: {}, createdBy: 'user:bo' }));
    const own = await row(VolumeName.parse('data-other'));
    expect(own).toMatchObject({
      isForks: true,
      phase: 'ready',
      sizeMib: 300,
      attachment: { sandbox: other, state: 'attached' },
    });
    expect(nodes.a.starts.at(-1)?.volumes).toEqual([
      { volume: own?.id, generation: 1, path: '/data', copy: { of: volume.id, sizeMib: 300 } },
    ]);
    await end();
    await beatFor(10_000);
    expect(await row(VolumeName.parse('data-other'))).toBeDefined();
    await clock.until(store.wanted.terminate(workspace, other, { reason: 'asked', atMs: clock.nowMs() }));
    await beatFor(30_000);
    expect([await row(VolumeName.parse('data-other')), (await row())?.phase]).toEqual([undefined, 'ready']);
  });
});
