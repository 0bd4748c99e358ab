import { InstanceId } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { beforeEach, describe, expect, it } from 'vitest';
import { rehearse, settle, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import { NodeKey } from '../images/node-key.ts';
import type { Instance } from './instance.ts';
import { snapshotsOf } from './snapshot-report.ts';

let clock: StillClock;
let set: Stage;
let room: Rehearsal;

beforeEach(() => {
  clock = new StillClock();
  set = stage(clock, {
    latencyMs: { 'image.save': [100, 100], 'image.verify': [400, 400], 'sandbox.delete': [50, 50] },
  });
  room = rehearse(set, { storeAfterMs: 60_000 });
});

async function started(env: Record<string, string> = {}): Promise<Instance> {
  const ask = startAsk({ env });
  await room.standby.start(ask);
  return room.standby.at(ask.instanceId, ask.generation);
}

/** A counter that runs on, and a file. */
async function busy(instance: Instance): Promise<void> {
  await exec(instance, 'count 50', { name: 'counter' });
  await exec(instance, 'echo first > /root/file', { waitMs: 1_000 });
}

async function exec(instance: Instance, shell: string, more: object = {}): Promise<{ stdout: string }> {
  const stay = await go(Promise.resolve(instance.enter('request')));
  try {
    return await go(stay.guest.json<{ stdout: string }>('POST', '/v1/processes', { shell, ...more }));
  } finally {
    stay.leave();
  }
}

/** Lets time pass until it is answered. */
async function go<T>(work: Promise<T>): Promise<T> {
  const watched = { over: false };
  const over = () => void (watched.over = true);
  work.then(over, over);
  while (!watched.over) await clock.go(10);
  return await work;
}

async function stored(instance: Instance): Promise<void> {
  await go(instance.store('asked'));
  expect([instance.state, set.host.sandboxes.size]).toEqual(['stored', 0]);
}

async function reborn(): Promise<Instance> {
  room.die();
  room = rehearse(set, { storeAfterMs: 60_000 });
  await go(room.standby.adopt());
  return room.standby.at(startAsk().instanceId, 1);
}

const images = () => [...set.host.images.keys()];
const disks = () => images().filter((name) => name.includes('-disk-'));

async function diesAndFallsBack(instance: Instance): Promise<void> {
  for (const hostId of set.host.sandboxes.keys()) set.host.kill(hostId);
  await instance.check();
  await go(instance.wake());
  await clock.go(200);
}

describe('a sandbox that sleeps for long', () => {
  it('is stored by itself, uses no memory, and wakes as it was', async () => {
    const instance = await started();
    await busy(instance);
    await clock.go(15_000);
    expect(instance.state).toBe('paused');
    await clock.go(61_000);
    expect([instance.state, set.host.sandboxes.size, instance.report().tier]).toEqual(['stored', 0, 'stored']);
    const stay = await go(Promise.resolve(instance.enter('request')));
    expect(stay.found).toBe('stored');
    expect(await stay.guest.json('GET', '/v1/processes/counter')).toMatchObject({ status: 'running' });
    stay.leave();
    expect((await exec(instance, 'cat /root/file', { waitMs: 100 })).stdout).toBe('first\n');
    expect(room.changes.join()).toContain('paused → storing,storing → stored,stored → restoring,restoring → running');
  });

  it('keeps its newest image and the one before until a wake has proven the newest', async () => {
    const instance = await started();
    for (let round = 0; round < 3; round++) {
      await stored(instance);
      expect(images()).toHaveLength(round === 0 ? 1 : 2);
      await go(instance.wake());
      await clock.go(200);
      expect(images()).toHaveLength(1);
    }
  });

  it('is let go of with all its images when it is deleted', async () => {
    const instance = await started();
    await stored(instance);
    await go(room.standby.stop(startAsk().instanceId, startAsk().generation, 'asked'));
    await clock.go(1_000);
    expect([images(), set.host.disks.size, set.host.nets.size, await set.store.readAll()]).toEqual([[], 0, 0, []]);
  });
});

describe('what is told of a sandbox', () => {
  it('has its wakes by tier, what its image takes and who asked for it, and survives a restart', async () => {
    const instance = await started();
    expect(instance.report()).toMatchObject({ wakes: {} });
    await go(instance.pause());
    await go(instance.wake());
    await stored(instance);
    await go(instance.wake());
    await stored(instance);
    const told = {
      tier: 'stored',
      wakes: { paused: { measured: 1 }, stored: { measured: 1 } },
      wakeMs: instance.past.wakes.stored.predictedMs,
      storeAsked: true,
      imageAtMs: expect.any(Number),
    };
    expect(instance.report()).toMatchObject({ ...told, imageBytes: 2 << 20 });
    const next = await reborn();
    expect(next.report()).toMatchObject(told);
    await go(next.wake());
    expect(next.report().storeAsked).toBeUndefined();
  });

  it('asked to be stored when it is, it is told as asked for', async () => {
    const instance = await started();
    await clock.go(80_000);
    expect([instance.state, instance.report().storeAsked]).toEqual(['stored', undefined]);
    await go(instance.store('asked'));
    expect(instance.report().storeAsked).toBe(true);
  });
});

describe('a request that meets a store', () => {
  it('waits for the save, and not for what only concerns the image; nothing of its RAM is let go', async () => {
    const instance = await started();
    await busy(instance);
    await go(instance.pause());
    void instance.store('asked');
    await clock.go(50);
    const since = clock.nowMs();
    const waiting = Promise.resolve(instance.enter('request'));
    expect(instance.report()).toMatchObject({ state: 'storing', queuedWake: true });
    const stay = await go(waiting);
    expect(clock.nowMs() - since).toBeLessThan(100);
    expect(stay.found).toBe('storing');
    stay.leave();
    expect(set.host.calls.map(({ verb }) => verb)).not.toContain('sandbox.restore');
  });

  it('that comes while the image is read back waits no longer than for the thaw', async () => {
    const instance = await started();
    await go(instance.pause());
    void instance.store('asked');
    await clock.go(300);
    expect(instance.state).toBe('storing');
    const since = clock.nowMs();
    (await go(Promise.resolve(instance.enter('request')))).leave();
    expect(clock.nowMs() - since).toBeLessThan(50);
  });

  it('and comes as its RAM goes waits for that, and comes back from the image', async () => {
    const instance = await started();
    await busy(instance);
    await go(instance.pause());
    void instance.store('asked');
    await clock.go(520);
    expect([instance.state, set.host.sandboxes.size]).toEqual(['storing', 1]);
    expect((await exec(instance, 'cat /root/file', { waitMs: 100 })).stdout).toBe('first\n');
    expect(set.host.calls.map(({ verb }) => verb)).toContain('sandbox.restore');
  });
});

describe('a store that fails', () => {
  it.each(['image.save', 'disk.snapshot', 'image.seal', 'image.verify'] as const)(
    'at %s leaves it asleep in RAM, says so, and is tried again',
    async (verb) => {
      const instance = await started();
      await busy(instance);
      set.host.failNext(verb, 'before', new Failure('no_capacity', 'the pool is full'));
      await go(instance.store('asked'));
      expect(instance.report()).toMatchObject({ state: 'paused', reason: expect.stringContaining('the pool is full') });
      expect(set.host.sandboxes.size).toBe(1);
      await clock.go(62_000);
      expect(instance.state).toBe('stored');
      await go(instance.wake());
      await clock.go(200);
      expect(images()).toHaveLength(1); // what was left of the try has gone
    },
  );
});

describe('an image that will not do', () => {
  it('gives way to the one before it, and what is lost is said', async () => {
    const instance = await started();
    await busy(instance);
    await stored(instance);
    await go(instance.wake());
    await exec(instance, 'echo second > /root/file', { waitMs: 1_000 });
    await stored(instance);
    const [, newest] = images();
    set.host.damage(newest ?? '');
    expect((await exec(instance, 'cat /root/file', { waitMs: 100 })).stdout).toBe('first\n');
    expect(instance.reason).toMatch(/what happened after .* was lost/);
    expect(images().some((name) => name.includes('-disk-'))).toBe(true); // the disk as it was is kept
  });

  it('and has none before it gives way to the files, with the environment that it had', async () => {
    const instance = await started({ OWN: 'mine' });
    await busy(instance);
    await stored(instance);
    set.host.damage(images()[0] ?? '');
    expect((await exec(instance, 'cat /root/file; env', { waitMs: 100 })).stdout).toMatch(/^first\n[^]*OWN=mine/);
    expect(instance.reason).toMatch(/its memory was lost/);
    await go(instance.pause());
    expect([instance.reason, instance.report().lost]).toMatchObject([
      undefined,
      { to: 'files', reason: expect.stringContaining('memory was lost') },
    ]);
  });

  it('gives way to the files as they were last, not as an earlier fall-back has left them', async () => {
    const instance = await started();
    await busy(instance);
    await stored(instance);
    await go(instance.wake());
    await diesAndFallsBack(instance);
    await exec(instance, 'echo second > /root/file', { waitMs: 1_000 });
    await stored(instance);
    for (const name of images()) set.host.damage(name);
    expect((await exec(instance, 'cat /root/file', { waitMs: 100 })).stdout).toBe('second\n');
  });

  it('leaves every disk that it replaces as a snapshot of its own, says which, and keeps the last three', async () => {
    const instance = await started();
    await stored(instance);
    await go(instance.wake());
    const seen = new Set<string>();
    for (let death = 0; death < 5; death++) {
      await diesAndFallsBack(instance);
      for (const name of disks()) seen.add(name);
      const last = snapshotsOf(instance.shelf).findLast(({ because }) => because === 'fall-back');
      expect(last).toMatchObject({
        id: disks().at(-1),
        name: expect.stringMatching(/^disk-at-death-/),
        state: 'ready',
      });
      expect(instance.report().lost?.reason).toContain(`is kept as the snapshot ${last?.name}`);
    }
    expect([seen.size, disks().length]).toEqual([5, 3]);
    await go(room.standby.stop(startAsk().instanceId, startAsk().generation, 'asked'));
    await clock.go(1_000);
    expect(disks()).toEqual([]);
  });

  it('is put aside and not removed when it is whole, but gVisor makes nothing of it', async () => {
    const instance = await started();
    await busy(instance);
    await stored(instance);
    const [only = ''] = images();
    for (let n = 0; n < 2; n++)
      set.host.failNext(
        'sandbox.restore',
        'before',
        new Failure('internal', 'gVisor gave up', { details: { verb: 'sandbox.restore' } }),
      );
    expect((await exec(instance, 'cat /root/file', { waitMs: 100 })).stdout).toBe('first\n');
    expect(instance.reason).toMatch(/its memory was lost/);
    await clock.go(1_000);
    expect(images()).toContain(only);
  });

  it('is not given up for a place that cannot be made for it, nor under another key', async () => {
    const instance = await started();
    await busy(instance);
    await stored(instance);
    const refused = () => go(instance.wake().catch((error: unknown) => error));
    for (let n = 0; n < 2; n++)
      set.host.failNext(
        'sandbox.create',
        'before',
        new Failure('internal', 'no room', { details: { verb: 'sandbox.create' } }),
      );
    expect(await refused()).toMatchObject({ code: 'unavailable' });
    Object.assign(room.parts, { nodeKey: new NodeKey(new Uint8Array(32).fill(1)) });
    expect(await refused()).toMatchObject({ message: expect.stringContaining("not sealed by this node's key") });
    Object.assign(room.parts, { nodeKey: new NodeKey(new Uint8Array(32)) });
    await go(instance.wake());
    expect([instance.state, instance.reason]).toEqual(['running', undefined]);
  });

  it('is not given up for a host that is in trouble', async () => {
    const instance = await started();
    await busy(instance);
    await stored(instance);
    for (let n = 0; n < 2; n++) set.host.failNext('sandbox.restore', 'before');
    const failed = await go(
      instance.wake().then(
        () => undefined,
        (error: unknown) => error,
      ),
    );
    expect([instance.state, failed]).toEqual(['stored', expect.objectContaining({ code: 'unavailable' })]);
    await go(instance.wake());
    expect([instance.state, instance.reason]).toEqual(['running', undefined]);
    const stay = await go(Promise.resolve(instance.enter('request')));
    expect(await stay.guest.json('GET', '/v1/processes/counter')).toMatchObject({ status: 'running' });
    stay.leave();
  });
});

describe('a host that has no room for its memory', () => {
  it('refuses the wake for a while, kills nobody for it, and gives nothing up', async () => {
    set = stage(clock, { memoryMib: 340 });
    room = rehearse(set, { storeAfterMs: 60_000 });
    const instance = await started();
    await stored(instance);
    const other = startAsk({ id: 'ibbbbbbbbbbb' });
    await go(room.standby.start(other));
    await clock.go(2_000);
    await expect(go(instance.wake())).rejects.toMatchObject({
      code: 'unavailable',
      retryable: true,
      message: expect.stringContaining('MiB of memory are free'),
    });
    expect([instance.state, images().length]).toEqual(['stored', 1]);
    await go(room.standby.stop(other.instanceId, other.generation, 'asked'));
    await clock.go(2_000);
    await go(instance.wake());
    expect([instance.state, instance.reason]).toEqual(['running', undefined]);
  });
});

describe('a process that dies', () => {
  it('while there is an image falls back to it at the next request, and says so', async () => {
    const instance = await started();
    await busy(instance);
    await stored(instance);
    await go(instance.wake());
    await exec(instance, 'echo second > /root/file', { waitMs: 1_000 });
    for (const hostId of set.host.sandboxes.keys()) set.host.kill(hostId);
    await instance.check();
    expect(instance.report()).toMatchObject({ state: 'stored', reason: expect.stringContaining('last image') });
    expect((await exec(instance, 'cat /root/file', { waitMs: 100 })).stdout).toBe('first\n');
    expect(instance.reason).toMatch(/was lost: its process is gone/);
  });
});

describe('a process that dies while its image is read back', () => {
  async function dyingMeanwhile(): Promise<Instance> {
    const instance = await started();
    await busy(instance);
    await go(instance.pause());
    void instance.store('asked');
    await clock.go(300);
    for (const hostId of set.host.sandboxes.keys()) set.host.kill(hostId);
    await instance.check();
    expect(instance.state).toBe('storing');
    return instance;
  }

  it('has lost nothing, and never counts as failed', async () => {
    const instance = await dyingMeanwhile();
    await clock.go(1_000);
    expect([instance.state, instance.reason]).toEqual(['stored', undefined]);
    expect((await exec(instance, 'cat /root/file', { waitMs: 100 })).stdout).toBe('first\n');
    expect(room.changes.join()).not.toContain('failed');
  });

  it('comes back to its files when that image is not to be had: it died by our doing', async () => {
    set.host.failNext('image.verify', 'after', new Failure('internal', 'damaged'));
    const instance = await dyingMeanwhile();
    await clock.go(1_000);
    expect(instance.report()).toMatchObject({
      state: 'stored',
      tier: 'files',
      reason: expect.stringContaining('files only'),
    });
    const next = await reborn();
    expect(next.report()).toMatchObject({ state: 'stored', tier: 'files' });
    expect((await exec(next, 'cat /root/file', { waitMs: 100 })).stdout).toBe('first\n');
    expect(next.reason).toMatch(/its memory was lost/);
  });
});

describe('after a restart', () => {
  it('what is stored wakes for whoever came before it was known how it is', async () => {
    await stored(await started());
    room.die();
    room = rehearse(set, { storeAfterMs: 60_000 });
    set.host.failNext('sandbox.state', 'before');
    const adopting = room.standby.adopt();
    await settle();
    const entered = Promise.resolve(room.standby.at(startAsk().instanceId, 1).enter('request'));
    await go(adopting);
    const stay = await go(entered);
    expect([stay.found, room.standby.at(startAsk().instanceId, 1).state]).toEqual(['creating', 'running']);
    stay.leave();
  });

  it('images that no journal knows are destroyed', async () => {
    const { hostId } = (await started()).body ?? {};
    await stored(room.standby.at(startAsk().instanceId, 1));
    room.die();
    await set.store.remove(InstanceId.parse(hostId));
    room = rehearse(set, { storeAfterMs: 60_000 });
    await go(room.standby.adopt());
    await clock.go(1_000);
    expect([images(), set.host.disks.size, set.host.nets.size, await set.store.readAll()]).toEqual([[], 0, 0, []]);
  });
});

describe('after a reboot of the host', () => {
  it('what was stored wakes as it was, and nothing is said to be lost', async () => {
    const instance = await started();
    await busy(instance);
    await stored(instance);
    set.host.reboot();
    const next = await reborn();
    expect([next.state, next.reason]).toEqual(['stored', undefined]);
    const stay = await go(Promise.resolve(next.enter('request')));
    expect(await stay.guest.json('GET', '/v1/processes/counter')).toMatchObject({ status: 'running' });
    stay.leave();
    expect(next.reason).toBeUndefined();
  });

  it('what ran falls back to its last image, and what had none to its files; both say what was lost', async () => {
    const instance = await started();
    await busy(instance);
    await stored(instance);
    await go(instance.wake());
    await exec(instance, 'echo second > /root/file', { waitMs: 1_000 });
    await room.standby.start(startAsk({ id: 'ibbbbbbbbbbb', env: { OWN: 'mine' } }));
    set.host.reboot();
    const next = await reborn();
    expect((await exec(next, 'cat /root/file', { waitMs: 100 })).stdout).toBe('first\n');
    expect(next.reason).toMatch(/what happened after .* was lost/);
    const bare = room.standby.at(InstanceId.parse('ibbbbbbbbbbb'), 1);
    expect(bare.report()).toMatchObject({ state: 'stored', tier: 'files' });
    expect((await exec(bare, 'env', { waitMs: 100 })).stdout).toContain('OWN=mine');
    expect(bare.reason).toMatch(/its memory was lost/);
    await settle();
  });
});

describe('a lost lease', () => {
  it('leaves what is stored alone, and lets nobody wake it', async () => {
    const instance = await started();
    await stored(instance);
    room.standby.fence();
    expect(() => instance.enter('request')).toThrow(/lease/);
    expect(set.host.sandboxes.size).toBe(0);
    room.standby.unfence();
    await go(instance.wake());
    expect(instance.state).toBe('running');
  });
});
