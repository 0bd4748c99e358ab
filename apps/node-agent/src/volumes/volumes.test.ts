import { Generation, InstanceId, SandboxName, VolumeId, type AttachedVolume } from '@torpor/contracts';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Failpoints } from '../journal/index.ts';
import { rehearse, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from '../standby/instance.ts';
import { snapshotsOf } from '../standby/snapshot-report.ts';

const V = VolumeId.parse('vaaaaaaaaaaaaaaa');
const W = VolumeId.parse('vbbbbbbbbbbbbbbb');
const at = (generation: number, volume = V, path = '/data'): AttachedVolume => ({
  volume,
  generation: Generation.parse(generation),
  path,
});
const second = () => ({
  ...startAsk(),
  instanceId: InstanceId.parse('ibbbbbbbbbbb'),
  name: SandboxName.parse('other'),
});

let clock: StillClock;
let set: Stage;
let room: Rehearsal;

beforeEach(() => {
  clock = new StillClock();
  set = stage(clock);
  room = rehearse(set);
});

/** Lets time pass until it is answered. */
async function go<T>(work: Promise<T>): Promise<T> {
  const watched = { over: false };
  const over = () => void (watched.over = true);
  work.then(over, over);
  while (!watched.over) await clock.go(10);
  return await work;
}

const hold = (volume = V, sizeMib = 100, generation = 1) =>
  go(room.parts.volumes.hold({ volume, generation: Generation.parse(generation), sizeMib }));

async function started(ask = startAsk()): Promise<Instance> {
  await go(room.standby.start({ ...ask, idle: { kind: 'never' } }));
  return room.standby.at(ask.instanceId, ask.generation);
}

async function write(instance: Instance, path: string, text: string): Promise<void> {
  await inside(instance, (guest) => guest.send({ method: 'PUT', path: `/v1/files/content?path=${path}`, body: text }));
}

async function read(instance: Instance, path: string): Promise<string> {
  return await inside(instance, async (guest) => {
    const { body } = await guest.send({ method: 'GET', path: `/v1/files/content?path=${path}` });
    return (await body.toArray()).join('');
  });
}

async function inside<T>(instance: Instance, work: (guest: Instance['guest']) => Promise<T>): Promise<T> {
  const stay = await go(Promise.resolve(instance.enter('request')));
  try {
    return await go(work(stay.guest));
  } finally {
    stay.leave();
  }
}

const give = (instance: Instance, volume: AttachedVolume) => go(room.standby.give(instance, volume));
const take = (generation: number, volume = V) => go(room.standby.take(volume, Generation.parse(generation)));
const placeOf = (volume = V) => set.host.volumes.get(volume)?.at?.instanceId;

async function reborn(options: Parameters<typeof rehearse>[1] = {}): Promise<Instance> {
  room.die();
  set.store.crash();
  set.volumeStore.crash();
  room = rehearse(set, options);
  await room.parts.volumes.recall();
  await go(room.standby.adopt());
  await go(room.parts.volumes.settle());
  return room.standby.at(startAsk().instanceId, 1);
}

describe('a volume', () => {
  it('is given to a running instance, keeps what is written to it, and is another’s afterwards', async () => {
    await hold();
    const [one, two] = [await started(), await started(second())];
    await give(one, at(2));
    await write(one, '/data/letter', 'dear');
    await take(3);
    await expect(read(one, '/data/letter')).resolves.not.toBe('dear');
    await give(two, at(4, V, '/elsewhere'));
    expect(await read(two, '/elsewhere/letter')).toBe('dear');
  });

  it('wakes whoever is to have it, and is there after a store', async () => {
    await hold();
    const instance = await started();
    await go(instance.store('asked'));
    await give(instance, at(2));
    await write(instance, '/data/letter', 'dear');
    for (let round = 0; round < 3; round++) {
      await go(instance.store('asked'));
      expect([instance.state, await read(instance, '/data/letter')]).toEqual(['stored', 'dear']);
    }
  });

  it('that is gone from the host while its instance sleeps on the disk comes back as the image holds it', async () => {
    await hold();
    const instance = await started();
    await give(instance, at(2));
    await write(instance, '/data/letter', 'dear');
    await go(instance.store('asked'));
    set.host.volumes.delete(V);
    expect([await read(instance, '/data/letter'), instance.past.lastWakeLost]).toEqual(['dear', undefined]);
    expect(placeOf()).toBe(instance.body?.hostId);
  });

  it('is nobody’s any more when it was asked for with an older generation', async () => {
    await hold();
    const instance = await started();
    await give(instance, at(2));
    await take(3);
    await expect(give(instance, at(2))).rejects.toMatchObject({ code: 'conflict', message: /comes too late/ });
    await expect(hold(V, 50, 1)).rejects.toMatchObject({ code: 'conflict' });
    expect(placeOf()).toBeUndefined();
  });

  it('stays where it is while a program uses it', async () => {
    await hold();
    const instance = await started();
    await give(instance, at(2));
    await inside(instance, (guest) =>
      guest.json('POST', '/v1/processes', { name: 'user', shell: 'count 1000', cwd: '/data' }),
    );
    await expect(take(3)).rejects.toMatchObject({ code: 'conflict', message: /a program uses what is at \/data/ });
    expect(placeOf()).toBeDefined();
  });

  it('is waited for while its last instance is on its way out', async () => {
    await hold();
    const one = await started();
    await give(one, at(2));
    const two = await started(second());
    const given = room.standby.give(two, at(3));
    await clock.go(100);
    expect(placeOf()).toBe(one.body?.hostId);
    await go(room.standby.stop(one.claim.instanceId, one.claim.generation, 'superseded'));
    await go(given);
    expect(placeOf()).toBe(two.body?.hostId);
  });

  it('grows, and gets smaller only where what it holds fits', async () => {
    await hold();
    const instance = await started();
    await give(instance, at(2));
    await write(instance, '/data/big', 'x'.repeat(3 << 20));
    await hold(V, 200, 2);
    await expect(hold(V, 2, 2)).rejects.toMatchObject({ code: 'conflict', message: /holds 3 MiB/ });
    await hold(V, 50, 2);
    expect(set.host.volumes.get(V)?.mib).toBe(50);
  });

  it('is refused when the node has no room for it, and dropped only when nobody has it', async () => {
    await expect(hold(V, set.host.diskFreeMib + 1)).rejects.toMatchObject({ code: 'no_space' });
    await hold();
    const instance = await started();
    await give(instance, at(2));
    const drop = () => go(room.parts.volumes.drop(V, Generation.parse(3)));
    await expect(drop()).rejects.toThrow(/leaves instance/);
    await take(3);
    await drop();
    await drop();
    expect([set.host.volumes.size, [...room.parts.volumes.all()]]).toEqual([0, []]);
  });

  it('is dropped when the sandbox that has it still has come to its end', async () => {
    await hold();
    const instance = await started();
    await give(instance, at(2));
    const dropped = room.parts.volumes.drop(V, Generation.parse(3));
    await go(instance.end('deleted'));
    await go(dropped);
    expect([set.host.volumes.size, [...room.parts.volumes.all()]]).toEqual([0, []]);
  });
});

describe('a snapshot of an instance', () => {
  it('takes its volumes back with it, and leaves those as they are that came later', async () => {
    await hold();
    await hold(W);
    const instance = await started();
    await give(instance, at(2));
    await write(instance, '/data/letter', 'then');
    await go(instance.snapshots.make({ because: 'asked', name: 'then' }));
    expect(snapshotsOf(instance.shelf)).toMatchObject([{ volumes: [{ ...at(2), sizeMib: 100 }] }]);
    await write(instance, '/data/letter', 'now');
    await give(instance, at(2, W, '/later'));
    await write(instance, '/later/letter', 'later');
    const { before } = await go(instance.snapshots.rewind('then'));
    expect([await read(instance, '/data/letter'), await read(instance, '/later/letter')]).toEqual(['then', 'later']);
    await go(instance.snapshots.rewind(before?.image ?? ''));
    expect([await read(instance, '/data/letter'), await read(instance, '/later/letter')]).toEqual(['now', 'later']);
  });

  it('that holds a volume which it has no more is not gone back to, and nothing is lost', async () => {
    await hold();
    const instance = await started();
    await give(instance, at(2));
    await go(instance.snapshots.make({ because: 'asked', name: 'then' }));
    await take(3);
    await write(instance, '/root/file', 'now');
    await expect(go(instance.snapshots.rewind('then'))).rejects.toMatchObject({
      code: 'conflict',
      message: /at \/data, which is attached no more; attach it again/,
    });
    expect(await read(instance, '/root/file')).toBe('now');
  });

  it('gives each fork a copy of its own', async () => {
    await hold();
    const parent = await started();
    await give(parent, at(2));
    await write(parent, '/data/letter', 'then');
    const { image } = await go(parent.snapshots.make({ because: 'fork' }));
    const own = { ...at(1, W), copy: { of: V, sizeMib: 100 } };
    const from = { instanceId: parent.claim.instanceId, snapshot: image };
    const ask = { ...second(), generation: Generation.parse(2), from, volumes: [own] };
    const fork = await started(ask);
    await write(fork, '/data/letter', 'of the fork');
    expect([await read(parent, '/data/letter'), await read(fork, '/data/letter')]).toEqual(['then', 'of the fork']);
    await go(fork.store('asked'));
    expect(await read(fork, '/data/letter')).toBe('of the fork');
    const without = { ...ask, instanceId: InstanceId.parse('iccccccccccc'), volumes: [] };
    await expect(go(room.standby.start(without))).rejects.toMatchObject({ code: 'conflict' });
  });
});

describe('an instance whose memory is lost', () => {
  it('comes back to its files with its volumes as they are, and mounted', async () => {
    await hold();
    const instance = await started();
    await give(instance, at(2));
    await write(instance, '/data/letter', 'dear');
    set.host.reboot();
    expect(await read(await reborn(), '/data/letter')).toBe('dear');
  });

  it('goes back to its image with its volumes as they were then; what they were is kept', async () => {
    await hold();
    const instance = await started();
    await give(instance, at(2));
    await write(instance, '/data/letter', 'then');
    await go(instance.store('asked'));
    await write(instance, '/data/letter', 'now');
    set.host.reboot();
    const back = await reborn();
    expect(await read(back, '/data/letter')).toBe('then');
    expect(back.past.lastWakeLost).toBeDefined();
    const aside = [...set.host.images.values()].find(({ manifest, volumes }) => !manifest && volumes?.length === 1);
    expect(aside?.volumes?.[0]?.files.read('/letter').toString()).toBe('now');
  });
});

describe('a node-agent that is killed', () => {
  /** Dies at the nth failpoint that it comes by; says where. */
  function dyingAt(n: number): Failpoints & { diedAt: string | undefined } {
    let passed = 0;
    const self = {
      diedAt: undefined as string | undefined,
      hit(name: string) {
        passed++;
        if (passed !== n) return undefined;
        self.diedAt = name;
        room.die();
        return new Promise<void>(() => {});
      },
    };
    return self;
  }

  const acts = {
    'being made': () => room.parts.volumes.hold({ volume: V, generation: at(1).generation, sizeMib: 100 }),
    'being given': (instance: Instance) => room.standby.give(instance, at(2)),
    'being taken': () => room.standby.take(V, at(3).generation),
    'being dropped': () => room.parts.volumes.drop(V, at(3).generation),
  };
  const before: Record<keyof typeof acts, (instance: Instance) => Promise<unknown>> = {
    'being made': async () => {},
    'being given': () => hold(),
    'being taken': async (instance) => {
      await hold();
      await give(instance, at(2));
    },
    'being dropped': () => hold(),
  };

  for (const what of Object.keys(acts) as (keyof typeof acts)[]) {
    it(`leaves a volume that is ${what} so that asking again ends it, wherever it dies`, async () => {
      const diedAt: string[] = [];
      for (let n = 1; n < 30; n++) {
        clock = new StillClock();
        set = stage(clock);
        room = rehearse(set);
        await before[what](await started());
        const failpoints = dyingAt(n);
        const instance = await reborn({ failpoints });
        const act = acts[what](instance);
        act.catch(() => {}); // nobody hears of it
        await clock.go(5_000);
        if (failpoints.diedAt === undefined) break;
        diedAt.push(failpoints.diedAt);
        await go(acts[what](await reborn()));
        const expected = {
          'being made': [1, false],
          'being given': [1, true],
          'being taken': [1, false],
          'being dropped': [0, false],
        };
        expect([failpoints.diedAt, set.host.volumes.size, placeOf() !== undefined]).toEqual([
          failpoints.diedAt,
          ...expected[what],
        ]);
        const again = room.standby.at(startAsk().instanceId, 1);
        await go(again.store('asked'));
        expect([failpoints.diedAt, again.state]).toEqual([failpoints.diedAt, 'stored']);
      }
      expect(diedAt.length).toBeGreaterThan(3);
    });
  }
});
