import type { Snapshot } from '@torpor/contracts';
import { Generation, InstanceId, SandboxName, WorkspaceName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { beforeEach, describe, expect, it } from 'vitest';
import { rehearse, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
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
  room = rehearse(set);
});

const ASKED = { because: 'asked' } as const;
const CHILD = InstanceId.parse('ibbbbbbbbbbb');

async function started(env: Record<string, string> = {}): Promise<Instance> {
  const ask = startAsk({ env, idle: { kind: 'never' } });
  await room.standby.start(ask);
  return room.standby.at(ask.instanceId, ask.generation);
}

/** A counter that runs on, and a file. */
async function busy(instance: Instance): Promise<void> {
  await exec(instance, 'count 50', { name: 'counter' });
  await write(instance, 'first');
}

const write = (instance: Instance, text: string) => exec(instance, `echo ${text} > /root/file`, { waitMs: 1_000 });
const read = async (instance: Instance) => (await exec(instance, 'cat /root/file', { waitMs: 100 })).stdout;

async function exec(instance: Instance, shell: string, more: object = {}): Promise<{ stdout: string }> {
  const stay = await go(Promise.resolve(instance.enter('request')));
  try {
    return await go(stay.guest.json<{ stdout: string }>('POST', '/v1/processes', { shell, ...more }));
  } finally {
    stay.leave();
  }
}

async function status(instance: Instance, process: string): Promise<string> {
  const stay = await go(Promise.resolve(instance.enter('request')));
  try {
    return (await go(stay.guest.json<{ status: string }>('GET', `/v1/processes/${process}`))).status;
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

/** What it rejects with. */
function failing(work: Promise<unknown>): Promise<Failure> {
  return go(
    work.then(
      () => Promise.reject(new Error('it was done')),
      (error: Failure) => error,
    ),
  );
}

async function reborn(): Promise<Instance> {
  room.die();
  set.store.crash();
  room = rehearse(set);
  await go(room.standby.adopt());
  return room.standby.at(startAsk().instanceId, 1);
}

function forkAsk(snapshot: string, more: { id?: InstanceId; name?: string; env?: Record<string, string> } = {}) {
  const { id = CHILD, name = 'child', env = {} } = more;
  const from = { instanceId: startAsk().instanceId, snapshot };
  return { ...startAsk({ env }), instanceId: id, generation: Generation.parse(2), name: SandboxName.parse(name), from };
}

const images = () => [...set.host.images.keys()];
const list = (instance: Instance): Snapshot[] => snapshotsOf(instance.shelf);
const seen = (instance: Instance) => list(instance).map(({ name, state }) => `${name ?? '-'} ${state}`);

describe('a snapshot', () => {
  it('of a running sandbox keeps it waiting for the save alone, and is ready only when it was read back', async () => {
    const instance = await started();
    await busy(instance);
    const made = instance.snapshots.make({ ...ASKED, name: 'one' });
    await clock.go(150);
    expect([instance.state, seen(instance)]).toEqual(['running', ['one making']]);
    expect(await read(instance)).toBe('first\n');
    const { image } = await go(made);
    expect(list(instance)).toMatchObject([{ id: image, name: 'one', state: 'ready', because: 'asked' }]);
    expect(set.host.calls.map(({ verb }) => verb)).toContain('image.verify');
  });

  it('holds requests that come while it is saved, and turns none away', async () => {
    const instance = await started();
    await busy(instance);
    const made = instance.snapshots.make(ASKED);
    await clock.go(50);
    expect(instance.state).toBe('pausing');
    expect(await read(instance)).toBe('first\n');
    await go(made);
  });

  it('of a sleeping one leaves it asleep', async () => {
    const instance = await started();
    await go(instance.pause());
    await go(instance.snapshots.make(ASKED));
    expect([instance.state, seen(instance)]).toEqual(['paused', ['- ready']]);
  });

  it('of a stored one is its image, and wakes nothing', async () => {
    const instance = await started();
    await busy(instance);
    await go(instance.store('asked'));
    const { image } = await go(instance.snapshots.make({ ...ASKED, name: 'one' }));
    expect([instance.state, images(), set.host.sandboxes.size]).toEqual(['stored', [image], 0]);
    expect((await failing(instance.snapshots.make({ ...ASKED, name: 'two' }))).code).toBe('conflict');
  });

  it.each(['image.save', 'disk.snapshot', 'image.seal', 'image.verify'] as const)(
    'that fails at %s is told, leaves the sandbox as it was, and nothing behind',
    async (verb) => {
      const instance = await started();
      await busy(instance);
      set.host.failNext(verb, 'after', new Failure('no_space', 'the pool is full'));
      const error = await failing(instance.snapshots.make({ ...ASKED, name: 'one' }));
      expect(error).toMatchObject({ code: 'no_space' });
      expect(list(instance)).toMatchObject([{ name: 'one', state: 'failed', reason: 'the pool is full' }]);
      expect([instance.state, await read(instance)]).toEqual(['running', 'first\n']);
      await clock.go(100);
      expect(images()).toEqual([]);
      await go(instance.snapshots.make({ ...ASKED, name: 'one' }));
    },
  );

  it('is refused before anything stalls when the disk has no room for it', async () => {
    set = stage(clock, { diskMib: 1_030 });
    room = rehearse(set);
    const instance = await started();
    expect((await failing(instance.snapshots.make(ASKED))).code).toBe('no_space');
    expect(set.host.calls.map(({ verb }) => verb)).not.toContain('sandbox.pause');
  });

  it('stays when images go, and frees its space when it is deleted', async () => {
    const instance = await started();
    const { image } = await go(instance.snapshots.make({ ...ASKED, name: 'one' }));
    for (let round = 0; round < 3; round++) {
      await go(instance.store('asked'));
      await go(instance.wake());
      await clock.go(200);
    }
    expect(images()).toContain(image);
    await go(instance.snapshots.remove('one'));
    expect([images().includes(image), list(instance)]).toMatchObject([false, [{ because: 'store' }]]); // what it woke from
    expect((await failing(instance.snapshots.remove('one'))).code).toBe('not_found');
  });

  it('made of an image that it sleeps in is let go without harm', async () => {
    const instance = await started();
    await busy(instance);
    await go(instance.store('asked'));
    await go(instance.snapshots.make({ ...ASKED, name: 'one' }));
    await go(instance.snapshots.remove('one'));
    expect([await read(instance), instance.reason]).toEqual(['first\n', undefined]);
  });

  it('has a name of its own', async () => {
    const instance = await started();
    await go(instance.snapshots.make({ ...ASKED, name: 'one' }));
    expect((await failing(instance.snapshots.make({ ...ASKED, name: 'one' }))).code).toBe('conflict');
    const both = [1, 2].map(() => instance.snapshots.make({ ...ASKED, name: 'two' }));
    const ends = await go(Promise.allSettled(both));
    expect(ends.map((end) => end.status).sort()).toEqual(['fulfilled', 'rejected']);
  });

  it('that was made by itself goes when there are newer ones', async () => {
    const instance = await started();
    for (let n = 0; n < 5; n++) await go(instance.snapshots.make({ because: 'fork' }));
    await go(instance.snapshots.make({ ...ASKED, name: 'one' }));
    await clock.go(100);
    expect([seen(instance), images().length]).toEqual([['- ready', '- ready', '- ready', 'one ready'], 4]);
  });

  it('goes with its sandbox, also half made', async () => {
    const instance = await started();
    await go(instance.snapshots.make(ASKED));
    const half = failing(instance.snapshots.make({ ...ASKED, name: 'half' }));
    await clock.go(200);
    await go(room.standby.stop(startAsk().instanceId, startAsk().generation, 'asked'));
    await clock.go(1_000);
    expect((await half).code).toBe('gone');
    expect([images(), set.host.disks.size, await set.store.readAll()]).toEqual([[], 0, []]);
  });

  it.each(['while a node-agent runs', 'while none does'])(
    'outlives the process of its sandbox, which dies %s',
    async (when) => {
      let instance = await started();
      await busy(instance);
      await go(instance.snapshots.make({ ...ASKED, name: 'then' }));
      await write(instance, 'second');
      if (when === 'while none does') room.die();
      for (const hostId of set.host.sandboxes.keys()) set.host.kill(hostId, { cause: 'memory' });
      if (when === 'while none does') instance = await reborn();
      else await instance.check();
      expect(instance.report()).toMatchObject({ state: 'stored', tier: 'files' });
      expect([await read(instance), instance.reason]).toEqual([
        'second\n',
        expect.stringContaining('its memory was lost'),
      ]);
      await go(instance.snapshots.rewind('then'));
      expect([await read(instance), await status(instance, 'counter')]).toEqual(['first\n', 'running']);
    },
  );

  it('half made when the node-agent is killed is told as failed by the next one, and removed', async () => {
    const instance = await started();
    await busy(instance);
    await go(instance.snapshots.make({ ...ASKED, name: 'whole' }));
    void instance.snapshots.make({ ...ASKED, name: 'half' });
    await clock.go(300);
    const next = await reborn();
    expect(seen(next)).toEqual(['whole ready', 'half failed']);
    expect(await read(next)).toBe('first\n');
    await clock.go(100);
    expect(images()).toHaveLength(1);
    await go(next.snapshots.make({ ...ASKED, name: 'half' }));
    expect(seen(next).filter((one) => one.endsWith('ready'))).toEqual(['whole ready', 'half ready']);
  });
});

describe('a restore in place', () => {
  async function changedSince(): Promise<Instance> {
    const instance = await started();
    await busy(instance);
    await go(instance.snapshots.make({ ...ASKED, name: 'then' }));
    await write(instance, 'second');
    await exec(instance, 'count 70', { name: 'later' });
    return instance;
  }

  it('makes it what it was then, and keeps what it was before', async () => {
    const instance = await changedSince();
    const made = () => set.host.calls.filter(({ verb }) => verb === 'sandbox.create').length;
    const madeBefore = made();
    const { before } = await go(instance.snapshots.rewind('then'));
    expect(made()).toBe(madeBefore + 1); // over the right disk at the first try
    expect([instance.state, instance.reason, await read(instance)]).toEqual(['running', undefined, 'first\n']);
    expect(await status(instance, 'counter')).toBe('running');
    expect(await failing(status(instance, 'later'))).toMatchObject({ code: 'not_found' });
    await go(instance.snapshots.rewind(before?.image ?? ''));
    expect([await read(instance), await status(instance, 'later')]).toEqual(['second\n', 'running']);
  });

  it.each(['paused', 'stored'] as const)('of a %s one does the same', async (tier) => {
    const instance = await changedSince();
    await go(tier === 'paused' ? instance.pause() : instance.store('asked'));
    const { before } = await go(instance.snapshots.rewind('then'));
    expect([await read(instance), before === undefined]).toEqual(['first\n', false]);
    await go(instance.snapshots.rewind(before?.image ?? ''));
    expect(await read(instance)).toBe('second\n');
  });

  it('goes on after it as from anywhere: stored, woken, and gone back again', async () => {
    const instance = await changedSince();
    for (let round = 0; round < 3; round++) {
      await go(instance.snapshots.rewind('then'));
      await write(instance, `round-${round}`);
      await go(instance.store('asked'));
      expect([await read(instance), instance.reason]).toEqual([`round-${round}\n`, undefined]);
    }
    await clock.go(500);
    expect(seen(instance).filter((one) => one.startsWith('then'))).toEqual(['then ready']);
  });

  it('is forgotten by a newer image: nobody falls back to the snapshot', async () => {
    const instance = await changedSince();
    await go(instance.snapshots.rewind('then'));
    await write(instance, 'third');
    await go(instance.store('asked'));
    await go(instance.wake());
    await clock.go(500);
    set.host.damage(instance.shelf.images.at(-1)?.image ?? '');
    for (const hostId of set.host.sandboxes.keys()) set.host.kill(hostId);
    await instance.check();
    expect([await read(instance), instance.reason]).toEqual([
      'third\n',
      expect.stringContaining('its memory was lost'),
    ]);
    expect(seen(instance)).toContain('then ready');
  });

  it('lets requests that come meanwhile wait, and shows them what it was then', async () => {
    const instance = await changedSince();
    const rewound = instance.snapshots.rewind('then');
    await clock.go(50);
    const reading = read(instance);
    await go(rewound);
    expect(await reading).toBe('first\n');
  });

  it.each(['image.save', 'image.verify', 'sandbox.pause'] as const)(
    'whose %s fails is told, and leaves it as it was',
    async (verb) => {
      const instance = await changedSince();
      set.host.failNext(verb, 'before', new Failure('no_space', 'the pool is full'));
      expect((await failing(instance.snapshots.rewind('then'))).message).toContain('the pool is full');
      expect([await read(instance), await status(instance, 'later')]).toEqual(['second\n', 'running']);
      await go(instance.snapshots.rewind('then'));
      expect(await read(instance)).toBe('first\n');
    },
  );

  it('to a damaged snapshot is told, and leaves it as it was, memory and all', async () => {
    const instance = await changedSince();
    set.host.damage(instance.snapshots.known('then').image);
    expect((await failing(instance.snapshots.rewind('then'))).code).toBe('unprocessable');
    expect([await read(instance), await status(instance, 'later')]).toEqual(['second\n', 'running']);
    expect(instance.reason).toBeUndefined();
  });

  it('cut short by a kill has happened or has not', async () => {
    for (let ms = 20; ms < 800; ms += 60) {
      clock = new StillClock();
      set = stage(clock, {
        latencyMs: { 'image.save': [100, 100], 'image.verify': [400, 400], 'sandbox.delete': [50, 50] },
      });
      room = rehearse(set);
      const instance = await changedSince();
      void instance.snapshots.rewind('then').catch(() => {}); // it dies
      await clock.go(ms);
      const next = await reborn();
      const text = await read(next);
      const later = await exec(next, 'true', { name: 'later' }).then(
        () => 'first\n',
        () => 'second\n',
      );
      expect([ms, text, next.reason]).toEqual([ms, later, undefined]);
      room.die();
    }
  });

  it('of one whose lease is over is refused', async () => {
    const instance = await changedSince();
    room.standby.fence();
    await clock.go(100);
    expect((await failing(instance.snapshots.rewind('then'))).message).toMatch(/lease/);
    room.standby.unfence();
    await clock.go(100);
    expect(await read(instance)).toBe('second\n');
  });
});

describe('a fork', () => {
  async function forked(more: Parameters<typeof forkAsk>[1] = {}): Promise<{ parent: Instance; child: Instance }> {
    const parent = await started({ OWN: 'parent' });
    await busy(parent);
    const { image } = await go(parent.snapshots.make({ because: 'fork' }));
    await go(room.standby.start(forkAsk(image, more)));
    return { parent, child: room.standby.at(more.id ?? CHILD, 2) };
  }

  it('has memory, processes and files of its parent, and goes its own way', async () => {
    const { parent, child } = await forked();
    expect([await read(child), await status(child, 'counter')]).toEqual(['first\n', 'running']);
    await write(child, 'mine');
    expect([await read(parent), await read(child)]).toEqual(['first\n', 'mine\n']);
  });

  it('is told who it is before anybody reaches it: token, generation, host name, machine id, environment', async () => {
    const { parent, child } = await forked({ env: { OWN: 'child' } });
    expect(child.claim.token).not.toBe(parent.claim.token);
    const { stdout } = await exec(child, 'hostname; cat /run/torpor/generation; cat /etc/machine-id; env', {
      waitMs: 100,
    });
    expect(stdout).toMatch(/^child\n2\n[0-9a-f]{32}\n[^]*OWN=child/);
    expect((await exec(parent, 'hostname; cat /run/torpor/generation; env', { waitMs: 100 })).stdout).toMatch(
      /^box\n1\n[^]*OWN=parent/,
    );
  });

  it('is one of many of the same snapshot, each by itself', async () => {
    const { child } = await forked();
    const snapshot = child.claim && room.standby.at(startAsk().instanceId, 1).snapshots;
    const [made] = list(room.standby.at(startAsk().instanceId, 1));
    const ids = ['icccccccccccc', 'idddddddddddd'].map((id) => InstanceId.parse(id));
    await go(Promise.all(ids.map((id) => room.standby.start(forkAsk(made?.id ?? '', { id, name: id })))));
    const forks = ids.map((id) => room.standby.at(id, 2));
    for (const fork of forks) expect(await read(fork)).toBe('first\n');
    expect(new Set(forks.map(({ claim }) => claim.token)).size).toBe(2);
    expect(snapshot?.find(made?.id ?? '')).toBeDefined();
  });

  it('lives on when its parent and the snapshot are gone, is stored, and wakes', async () => {
    const { child } = await forked();
    await go(room.standby.stop(startAsk().instanceId, startAsk().generation, 'asked'));
    await clock.go(1_000);
    expect(images()).toEqual([]);
    await go(child.store('asked'));
    expect([await read(child), await status(child, 'counter')]).toEqual(['first\n', 'running']);
    await go(child.snapshots.make({ ...ASKED, name: 'own' }));
  });

  it('comes back after a reboot with its files, as any other', async () => {
    await forked();
    set.host.reboot();
    await reborn();
    const child = room.standby.at(CHILD, 2);
    expect([await read(child), (await exec(child, 'hostname', { waitMs: 100 })).stdout]).toEqual([
      'first\n',
      'child\n',
    ]);
  });

  it('keeps its snapshot from being deleted while it is made', async () => {
    set = stage(clock, { latencyMs: { 'sandbox.restore': [100, 100] } });
    room = rehearse(set);
    const parent = await started();
    const { image } = await go(parent.snapshots.make({ ...ASKED, name: 'one' }));
    const fork = room.standby.start(forkAsk(image));
    await clock.go(50);
    expect((await failing(parent.snapshots.remove('one'))).code).toBe('conflict');
    await go(fork);
    await go(parent.snapshots.remove('one'));
  });

  it.each(['disk.restore', 'sandbox.restore', 'guest.health'] as const)(
    'whose %s fails is refused and leaves nothing, and its parent as it was',
    async (verb) => {
      const parent = await started();
      await busy(parent);
      const { image } = await go(parent.snapshots.make({ because: 'fork' }));
      set.host.failNext(verb, 'after', new Failure('unavailable', 'the host is in trouble', { retryable: true }));
      expect((await failing(room.standby.start(forkAsk(image)))).message).toContain('in trouble');
      await clock.go(1_000);
      expect([set.host.disks.size, set.host.sandboxes.size, room.standby.find(CHILD)]).toEqual([1, 1, undefined]);
      expect([await read(parent), await status(parent, 'counter')]).toEqual(['first\n', 'running']);
    },
  );

  it('of what is not there, or is somebody else’s, is refused', async () => {
    const { parent } = await forked();
    const [{ id = '' } = {}] = list(parent);
    const other = { ...forkAsk(id), instanceId: InstanceId.parse('ieeeeeeeeeee') };
    expect((await failing(room.standby.start({ ...other, workspace: WorkspaceName.parse('w2') }))).code).toBe(
      'not_found',
    );
    expect((await failing(room.standby.start({ ...other, from: { ...other.from, snapshot: 'nothing' } }))).code).toBe(
      'not_found',
    );
  });
});
