import { Generation, InstanceId, NodeId, VolumeId } from '@torpor/contracts';
import { publicText } from '@torpor/runtime';
import { beforeEach, describe, expect, it } from 'vitest';
import { rehearse, settle, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from '../standby/instance.ts';
import type { ArrivalAsk } from './arrival.ts';
import type { ParcelSource } from './carry.ts';
import { journey, ParcelOffice } from './office.ts';

const [HERE, THERE] = ['here', 'there'].map((id) => NodeId.parse(id)) as [NodeId, NodeId]; // two go in, two come out
const ID = InstanceId.parse('iaaaaaaaaaaa');
const [ONE, TWO] = [Generation.parse(1), Generation.parse(2)];

interface Side {
  readonly set: Stage;
  room: Rehearsal;
  /** Where it is killed. */
  dies: string | undefined;
}

let clock: StillClock;
let [here, there] = [] as unknown as [Side, Side];

beforeEach(() => {
  clock = new StillClock();
  [here, there] = [1, 2].map((key) => {
    const side: Side = { set: stage(clock), room: undefined as unknown as Rehearsal, dies: undefined };
    side.room = born(side, key);
    return side;
  }) as [Side, Side];
});

function born(side: Side, nodeKey: number): Rehearsal {
  const room: Rehearsal = rehearse(side.set, {
    nodeKey,
    failpoints: {
      hit(point) {
        if (point !== side.dies) return undefined;
        side.dies = undefined;
        room.die();
        return new Promise(() => {});
      },
    },
  });
  return room;
}

async function reborn(side: Side, nodeKey: number): Promise<void> {
  side.room.die();
  side.room = born(side, nodeKey);
  await go(side.room.standby.adopt());
}

/** Lets time pass until it is answered, or for so long. */
async function go<T>(work: Promise<T>, ms = 20_000): Promise<T> {
  let over = false;
  const end = () => void (over = true);
  work.then(end, end);
  for (let past = 0; !over; past += 10) {
    if (past > ms) throw new Error(`not within ${ms} ms`);
    await clock.go(10);
  }
  return await work;
}

async function exec(instance: Instance, shell: string, more: object = {}): Promise<{ stdout: string }> {
  const stay = await go(Promise.resolve(instance.enter('request')));
  try {
    return await go(stay.guest.json<{ stdout: string }>('POST', '/v1/processes', { shell, ...more }));
  } finally {
    stay.leave();
  }
}

async function busy(): Promise<Instance> {
  await go(here.room.standby.start(startAsk()));
  const instance = here.room.standby.at(ID, ONE);
  await exec(instance, 'count 50', { name: 'counter' });
  await exec(instance, 'echo first > /root/file', { waitMs: 1_000 });
  return instance;
}

async function expectWhole(instance: Instance): Promise<void> {
  const stay = await go(Promise.resolve(instance.enter('request')));
  expect(await stay.guest.json('GET', '/v1/processes/counter')).toMatchObject({ status: 'running' });
  expect(await stay.guest.json('GET', '/v1/health')).toMatchObject({ generation: instance.claim.generation });
  stay.leave();
  expect((await exec(instance, 'cat /root/file', { waitMs: 100 })).stdout).toBe('first\n');
}

const keyOf = ({ room }: Side) => publicText(room.parts.nodeKey.travelling());
const leave = () => here.room.standby.at(ID, ONE).leave({ nodeId: THERE, key: keyOf(there) });

function source(): ParcelSource {
  const office = new ParcelOffice(here.room.parts, here.room.standby, HERE);
  return {
    waybill: async () => office.waybill(ID, ONE),
    file: async (image, file, from) => {
      const found = await office.file({ instanceId: ID, generation: ONE }, image, file, from);
      return await found.stream();
    },
  };
}

function arrival(more: Partial<ArrivalAsk> = {}): ArrivalAsk {
  const about = journey(ID, ONE, { from: HERE, to: THERE });
  return { instanceId: ID, generation: TWO, source: source(), key: keyOf(here), about, ...more };
}

const fetch = (more: Partial<ArrivalAsk> = {}) => there.room.standby.fetch(arrival(more), new AbortController().signal);

function nothingAt({ set }: Side): unknown[] {
  return [[...set.host.images.keys()], set.host.disks.size, set.host.parcels.images];
}

describe('a sandbox that moves', () => {
  it('wakes on the other node as it was, under its next generation, and nothing is left behind', async () => {
    await busy();
    await go(leave());
    expect(here.set.host.sandboxes.size).toBe(0);
    await go(fetch());
    expect(there.set.host.sandboxes.size).toBe(0);
    await go(here.room.standby.stop(ID, ONE, 'it moved'));
    await clock.go(1_000);
    expect(nothingAt(here)).toEqual([[], 0, []]);
    expect(there.set.host.parcels.images).toEqual([]);
    await expectWhole(there.room.standby.at(ID, TWO));
  });

  it('holds requests while it leaves; they are sent on when it has left, and let in when it stays', async () => {
    const instance = await busy();
    await go(leave());
    const held = Promise.resolve(instance.enter('request')).then(
      () => 'let in',
      (error: { code: string }) => error.code,
    );
    await settle();
    expect(here.set.host.sandboxes.size).toBe(0);
    await go(here.room.standby.stop(ID, ONE, 'it moved'));
    expect(await held).toBe('misdirected');
  });

  it('lets those end first who are in it, and cuts those who would not', async () => {
    const instance = await busy();
    const quick = await go(Promise.resolve(instance.enter('request')));
    const leaving = leave();
    await clock.go(1_000);
    expect(await quick.guest.json('GET', '/v1/health')).toMatchObject({ generation: 1 });
    quick.leave();
    await go(leaving, 2_000);
    await go(here.room.standby.stay(ID, ONE));
    const endless = await go(Promise.resolve(instance.enter('request')));
    const cut: string[] = [];
    endless.onEnd = ({ code }) => void cut.push(code);
    await go(leave());
    expect(cut).toEqual(['unavailable']);
  });

  it('stays as it was when the move is cancelled, and may leave again', async () => {
    const instance = await busy();
    await go(leave());
    const held = Promise.resolve(instance.enter('request'));
    await go(here.room.standby.stay(ID, ONE));
    (await go(held)).leave();
    await expectWhole(instance);
    expect(here.set.host.parcels.images).toEqual([]);
    await go(leave());
    await go(fetch());
    await expectWhole(there.room.standby.at(ID, TWO));
  });

  it('lives on when only a copy is carried away, also when the carrier is gone', async () => {
    const instance = await busy();
    const copy = () => instance.leave({ nodeId: THERE, key: keyOf(there), isCopy: true });
    await go(copy());
    await expect(go(leave())).rejects.toMatchObject({ code: 'conflict', retryable: true });
    await go(fetch());
    await go(here.room.standby.stay(ID, ONE));
    await expectWhole(instance);
    await expectWhole(there.room.standby.at(ID, TWO));
    await go(copy());
    expect(instance.state).toBe('stored');
    await clock.go(125_000);
    await expectWhole(instance);
    await go(copy());
    await reborn(here, 1);
    await expectWhole(here.room.standby.at(ID, ONE));
  });

  it('takes its snapshots and its policy along, also out of a page-out, and lets none of it go meanwhile', async () => {
    const instance = await busy();
    const wakeBudget = { kind: 'p99', ms: 500 } as const;
    const snapshotLimits = { askedMax: 3 };
    await go(instance.setPolicy({ idle: { kind: 'never' }, wakeBudget, snapshotLimits }));
    const { image } = await go(instance.snapshots.make({ because: 'asked', name: 'before' }));
    await exec(instance, 'echo second > /root/file', { waitMs: 1_000 });
    await go(instance.lean('asked'));
    await go(leave());
    await expect(go(instance.snapshots.remove('before'))).rejects.toMatchObject({ code: 'conflict', retryable: true });
    await go(fetch());
    await go(here.room.standby.stop(ID, ONE, 'it moved'));
    const mover = there.room.standby.at(ID, TWO);
    expect(mover.claim).toMatchObject({ idle: { kind: 'never' }, wakeBudget, snapshotLimits });
    expect((await exec(mover, 'cat /root/file', { waitMs: 100 })).stdout).toBe('second\n');
    await go(there.room.standby.at(ID, 3).snapshots.rewind(image));
    await expectWhole(there.room.standby.at(ID, 3));
  });

  it('is refused at once while it has a volume, and goes on', async () => {
    const instance = await busy();
    const { volumes } = here.room.parts;
    const volume = { volume: VolumeId.parse('vaaaaaaaaaaa'), generation: TWO, path: '/data' };
    await go(volumes.hold({ ...volume, generation: ONE, sizeMib: 100 }));
    await go(here.room.standby.give(instance, volume));
    await expect(go(leave())).rejects.toThrow(/cannot leave: it has volumes/);
    expect(instance.state).toBe('running');
  });

  it('leaves behind what it has slept in with a volume that it has no more, and goes; a snapshot with one is told of first', async () => {
    const instance = await busy();
    const { volumes } = here.room.parts;
    const volume = { volume: VolumeId.parse('vaaaaaaaaaaa'), generation: TWO, path: '/data' };
    await go(volumes.hold({ ...volume, generation: ONE, sizeMib: 100 }));
    await go(here.room.standby.give(instance, volume));
    await go(instance.store('asked'));
    await exec(instance, 'true');
    const kept = await go(instance.snapshots.make({ because: 'asked', name: 'with-data' }));
    await go(here.room.standby.take(volume.volume, Generation.parse(3)));
    await expect(go(leave())).rejects.toThrow(/snapshot "with-data" holds volumes; delete that first/);
    expect(instance.state).toBe('running');
    await go(instance.snapshots.remove(kept.image));
    await go(leave());
    await go(fetch());
    await expectWhole(there.room.standby.at(ID, TWO));
  });

  it('takes along what befell it, and the receipts of its wakes as they were signed', async () => {
    const instance = await busy();
    await go(instance.store('asked'));
    await exec(instance, 'true');
    const { hostId } = instance.body ?? { hostId: ID };
    const before = await here.room.parts.receipts.of(hostId);
    expect(before).toHaveLength(1);
    await go(leave());
    await go(fetch());
    const mover = there.room.standby.at(ID, TWO);
    expect(await there.room.parts.receipts.of(hostId)).toEqual(before);
    await expectWhole(mover);
    const [first, second] = await there.room.parts.receipts.of(hostId);
    expect([first]).toEqual(before);
    expect(second?.key).toBe(there.room.parts.receipts.publicKey);
    const past = (await there.room.parts.journal.history(hostId)).map(({ what }) => what);
    expect(past).toEqual(['created', 'stored', 'woke from image', 'stored', 'arrived', 'woke from image']);
  });

  it('takes along the disk that a fall-back has put aside, and may go back to it', async () => {
    const instance = await busy();
    await go(instance.store('asked'));
    await exec(instance, 'echo at-death > /root/file', { waitMs: 1_000 });
    for (const hostId of here.set.host.sandboxes.keys()) here.set.host.kill(hostId);
    await instance.check();
    await go(instance.wake());
    const [aside] = instance.shelf.asides;
    expect(aside?.name).toContain('disk-at-death');
    await go(leave());
    await go(fetch());
    await go(here.room.standby.stop(ID, ONE, 'it moved'));
    await clock.go(1_000);
    expect(nothingAt(here)).toEqual([[], 0, []]);
    await expectWhole(there.room.standby.at(ID, TWO));
    expect(there.room.standby.at(ID, TWO).shelf.asides).toMatchObject([{ image: aside?.image, name: aside?.name }]);
    await go(there.room.standby.at(ID, 3).snapshots.rewind(aside?.image ?? ''));
    expect((await exec(there.room.standby.at(ID, 3), 'cat /root/file', { waitMs: 100 })).stdout).toBe('at-death\n');
  });

  it('comes back to a node that it has left', async () => {
    await busy();
    await go(leave());
    await go(fetch());
    await go(here.room.standby.stop(ID, ONE, 'it moved'));
    await clock.go(1_000);
    const mover = there.room.standby.at(ID, TWO);
    await expectWhole(mover);
    await go(mover.leave({ nodeId: HERE, key: keyOf(here) }));
    const office = new ParcelOffice(there.room.parts, there.room.standby, THERE);
    const back: ParcelSource = {
      waybill: async () => office.waybill(ID, TWO),
      file: async (image, file, from) => {
        return await (await office.file({ instanceId: ID, generation: TWO }, image, file, from)).stream();
      },
    };
    const three = Generation.parse(3);
    const about = journey(ID, TWO, { from: THERE, to: HERE });
    const ask = { instanceId: ID, generation: three, source: back, key: keyOf(there), about };
    await go(here.room.standby.fetch(ask, new AbortController().signal));
    const home = here.room.standby.at(ID, three);
    expect(home.state).toBe('stored');
    await expectWhole(home);
  });

  it('is not opened by another node, nor for another journey', async () => {
    await busy();
    await go(leave());
    await expect(go(fetch({ key: keyOf(there) }))).rejects.toThrow(/not sealed for here/);
    await expect(go(fetch({ about: 'elsewhere' }))).rejects.toThrow(/not sealed for here/);
    expect(nothingAt(there)).toEqual([[], 0, []]);
  });

  it('goes on where a file broke off', async () => {
    await busy();
    await go(leave());
    const { file, ...rest } = source();
    const begun: number[] = [];
    const brittle: ParcelSource = {
      ...rest,
      async file(image, name, from, signal) {
        begun.push(from);
        const whole = await file(image, name, from, signal);
        return whole.map((chunk: Buffer) => {
          if (begun.length > 3) return chunk;
          if (begun.length % 2 === 0) throw new Error('the cable was pulled');
          return chunk.subarray(0, 7);
        });
      },
    };
    await go(fetch({ source: brittle }));
    expect(begun.slice(0, 4)).toEqual([0, 7, 7, 14]);
    await expectWhole(there.room.standby.at(ID, TWO));
  });

  it('is refused, and here as before, when what came is not what was sent', async () => {
    await busy();
    await go(leave());
    const { file, ...rest } = source();
    const wrong: ParcelSource = {
      ...rest,
      file: async (...args) => (await file(...args)).map((chunk: Buffer) => Buffer.alloc(chunk.length)),
    };
    await expect(go(fetch({ source: wrong }))).rejects.toThrow(/not what was packed/);
    await clock.go(1_000);
    expect(nothingAt(there)).toEqual([[], 0, []]);
    await go(here.room.standby.stay(ID, ONE));
    await expectWhole(here.room.standby.at(ID, ONE));
  });
});

const STEPS = ['image.save', 'disk.snapshot', 'image.seal', 'image.verify'].map((step) => `journal:store:step:${step}`);
const LEAVING = [
  ...STEPS.flatMap((step) => [`${step}:before`, `${step}:after`]),
  'journal:store:before-fsync',
  'journal:store:done:after-fsync',
  'journal:release:after-fsync',
  'journal:release:done:before-fsync',
  'journal:leave:before-fsync',
  'journal:leave:after-fsync',
  'journal:leave:step:parcel.pack:before',
  'journal:leave:step:parcel.pack:after',
];
const ARRIVING = [
  'journal:arrive:before-fsync',
  'journal:arrive:after-fsync',
  'journal:arrive:step:parcel.unpack:before',
  'journal:arrive:step:parcel.unpack:after',
  'journal:arrive:step:parcel.delete:after',
  'journal:arrive:done:before-fsync',
  'journal:arrive:done:after-fsync',
];

describe('whoever is killed in the middle', () => {
  it.each(LEAVING)('at %s on its way out, the sandbox is whole there, and may leave again or stay', async (point) => {
    await busy();
    here.dies = point;
    void leave().catch(() => {});
    await clock.go(5_000);
    expect(here.dies).toBeUndefined();
    await reborn(here, 1);
    await go(leave());
    await go(fetch());
    await go(here.room.standby.stay(ID, ONE));
    await expectWhole(here.room.standby.at(ID, ONE));
    await go(there.room.standby.stop(ID, TWO, 'the move was cancelled'));
    await clock.go(1_000);
    expect(nothingAt(there)).toEqual([[], 0, []]);
  });

  it.each(ARRIVING)(
    'at %s on its way in, it is there whole or not at all, and comes when it is asked again',
    async (point) => {
      await busy();
      await go(leave());
      there.dies = point;
      void fetch().catch(() => {});
      await clock.go(5_000);
      expect(there.dies).toBeUndefined();
      await reborn(there, 2);
      await clock.go(5_000);
      await go(fetch());
      await go(here.room.standby.stop(ID, ONE, 'it moved'));
      await clock.go(1_000);
      expect(nothingAt(here)).toEqual([[], 0, []]);
      await expectWhole(there.room.standby.at(ID, TWO));
    },
  );

  it('after it has left, nothing wakes it there again', async () => {
    await busy();
    await go(leave());
    await reborn(here, 1);
    const held = Promise.resolve(here.room.standby.at(ID, ONE).enter('request'));
    held.catch(() => {});
    await clock.go(20_000);
    await expect(held).rejects.toMatchObject({ retryable: true });
    expect(here.set.host.sandboxes.size).toBe(0);
  });
});
