/** What a restore in place and a fork owe to whoever comes afterwards: a receipt, and a generation that those who knew it before do not have. */
import { Generation, InstanceId, Receipt, SandboxName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { FakeProgram } from '@torpor/runtime';
import { beforeEach, expect, it } from 'vitest';
import { rehearse, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from './instance.ts';
import { snapshotsOf } from './snapshot-report.ts';

/** Dies at its first wake, as a program does that meets what it cannot bear. */
const frail: FakeProgram = async ({ memory, process, nowMs, sleep }) => {
  if (memory['began']) process.signal('KILL', nowMs());
  memory['began'] = true;
  for (;;) await sleep(3_600_000);
};

const ID = startAsk().instanceId;
const CHILD = InstanceId.parse('ibbbbbbbbbbb');
let clock: StillClock;
let set: Stage;
let room: Rehearsal;
let instance: Instance;

beforeEach(async () => {
  clock = new StillClock();
  set = stage(clock, { programs: { frail } });
  room = rehearse(set);
  await room.standby.start(startAsk({ idle: { kind: 'never' } }));
  instance = room.standby.at(ID, 1);
});

async function go<T>(work: Promise<T>): Promise<T> {
  const watched = { over: false };
  const over = () => void (watched.over = true);
  work.then(over, over);
  while (!watched.over) await clock.go(10);
  return await work;
}

async function exec(one: Instance, shell: string, more: object = {}): Promise<string> {
  const stay = await go(Promise.resolve(one.enter('request')));
  try {
    return (await go(stay.guest.json<{ stdout: string }>('POST', '/v1/processes', { shell, ...more }))).stdout;
  } finally {
    stay.leave();
  }
}

const generation = (one: Instance) => exec(one, 'cat /run/torpor/generation', { waitMs: 100 });

async function receipts(one: Instance): Promise<Receipt[]> {
  await clock.go(300);
  const { body } = one;
  if (!body) throw new Error('nothing carries it');
  return (await room.parts.receipts.of(body.hostId)).map(({ signed }) => Receipt.parse(JSON.parse(signed)));
}

function fork(snapshot: string) {
  const from = { instanceId: ID, snapshot };
  const name = SandboxName.parse('child');
  return room.standby.start({ ...startAsk(), instanceId: CHILD, generation: Generation.parse(2), name, from });
}

it('a restore of a snapshot of a running sandbox has a receipt that says whole', async () => {
  await exec(instance, 'count 50', { name: 'counter' });
  const { image } = await go(instance.snapshots.make({ because: 'asked', name: 'then' }));
  await exec(instance, 'count 50', { name: 'later' });
  await go(room.standby.at(ID, 2).snapshots.rewind('then'));
  expect(await receipts(instance)).toMatchObject([{ cause: 'restore', verdict: 'whole', image, generation: 2 }]);
  expect((await receipts(instance))[0]?.checks.map(({ outcome }) => outcome)).not.toContain('not checked');
});

it('a greater generation turns those away who know the older one, and is told inside at the restore', async () => {
  await go(instance.snapshots.make({ because: 'asked', name: 'then' }));
  await go(room.standby.at(ID, 2).snapshots.rewind('then'));
  expect(() => room.standby.at(ID, 1)).toThrow(
    expect.objectContaining({ code: 'misdirected', details: { knows: { generation: 2, state: 'running' } } }),
  );
  expect(await generation(instance)).toBe('2\n');
  await go(room.standby.at(ID, 3).snapshots.rewind('then'));
  expect([await generation(instance), instance.report().generation]).toEqual(['3\n', 3]);
});

it('a generation that was raised is known after a restart', async () => {
  await go(instance.snapshots.make({ because: 'asked', name: 'then' }));
  await go(room.standby.at(ID, 2).snapshots.rewind('then'));
  room.die();
  set.store.crash();
  room = rehearse(set);
  await go(room.standby.adopt());
  expect(room.standby.find(ID)?.claim.generation).toBe(2);
});

it('a restore that fails leaves the sandbox as it was under the greater generation, which it is told before it sleeps', async () => {
  await go(instance.snapshots.make({ because: 'asked', name: 'then' }));
  set.host.failNext('image.save', 'before', new Failure('no_space', 'the pool is full'));
  await expect(go(room.standby.at(ID, 2).snapshots.rewind('then'))).rejects.toMatchObject({ code: 'no_space' });
  expect(instance.report()).toMatchObject({ state: 'running', generation: 2 });
  await go(instance.store('asked'));
  expect(await generation(instance)).toBe('2\n');
  expect(await receipts(instance)).toMatchObject([{ cause: 'wake', verdict: 'whole', generation: 2 }]);
});

it('a fork has a receipt of its own that says whole, written before it is answered', async () => {
  await exec(instance, 'count 50', { name: 'counter' });
  const { image } = await go(instance.snapshots.make({ because: 'fork' }));
  await go(fork(image));
  const child = room.standby.at(CHILD, 2);
  expect(await receipts(child)).toMatchObject([
    { cause: 'fork', verdict: 'whole', image, generation: 2, instanceId: CHILD, name: 'child' },
  ]);
  expect(await receipts(instance)).toEqual([]);
});

it('a fork that comes back as less than the snapshot is refused, and leaves nothing', async () => {
  await exec(instance, 'frail', { name: 'frail' });
  const { image } = await go(instance.snapshots.make({ because: 'fork' }));
  await expect(go(fork(image))).rejects.toThrow(/"frail" was killed at the wake/);
  await clock.go(1_000);
  expect([set.host.sandboxes.size, set.host.disks.size, room.standby.find(CHILD)]).toEqual([1, 1, undefined]);
});

it('what it slept in can be gone back to as long as it is there, and stays where its limits say so', async () => {
  await go(instance.setPolicy({ idle: { kind: 'never' }, snapshotLimits: { storesMax: 2 } }));
  for (const text of ['one', 'two', 'three']) {
    await exec(instance, `echo ${text} > /root/file`, { waitMs: 500 });
    await go(instance.store('asked'));
    await clock.go(500);
  }
  const stores = () => snapshotsOf(instance.shelf).filter(({ because }) => because === 'store');
  expect(stores()).toHaveLength(2);
  const [older] = stores();
  await go(room.standby.at(ID, 2).snapshots.rewind(older?.id ?? ''));
  expect(await exec(instance, 'cat /root/file', { waitMs: 500 })).toBe('two\n');
});

it('snapshots that are too old go by themselves, though nothing happens to their sandbox', async () => {
  await go(instance.setPolicy({ idle: { kind: 'never' }, snapshotLimits: { askedMs: 60_000 } }));
  const { image } = await go(instance.snapshots.make({ because: 'asked', name: 'old' }));
  await clock.go(30_000);
  instance.snapshots.growOld();
  await clock.go(1_000);
  expect(set.host.images.has(image)).toBe(true);
  await clock.go(60_000);
  instance.snapshots.growOld();
  await clock.go(1_000);
  expect([set.host.images.has(image), instance.shelf.snapshots]).toEqual([false, []]);
});
