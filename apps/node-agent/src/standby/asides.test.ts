/** What a sandbox was on its disk when gVisor or its host ended it: put aside by the wake that goes back to an image, and to be had again. */
import { Generation, InstanceId, SandboxName, VolumeId } from '@torpor/contracts';
import { beforeEach, expect, it } from 'vitest';
import type { Failpoints } from '../journal/index.ts';
import { rehearse, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from './instance.ts';
import { snapshotsOf } from './snapshot-report.ts';

const CHILD = InstanceId.parse('ibbbbbbbbbbb');
const V = VolumeId.parse('vaaaaaaaaaaaaaaa');

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

async function exec(instance: Instance, shell: string, more: object = {}): Promise<string> {
  const stay = await go(Promise.resolve(instance.enter('request')));
  try {
    return (await go(stay.guest.json<{ stdout: string }>('POST', '/v1/processes', { shell, ...more }))).stdout.trim();
  } finally {
    stay.leave();
  }
}

const write = (instance: Instance, text: string) => exec(instance, `echo ${text} > /root/file`, { waitMs: 1_000 });
const read = (instance: Instance, path = '/root/file') => exec(instance, `cat ${path}`, { waitMs: 100 });
const asides = (instance: Instance) => snapshotsOf(instance.shelf).filter(({ because }) => because === 'fall-back');
const disks = () => [...set.host.images.keys()].filter((name) => name.includes('-disk-'));

async function started(): Promise<Instance> {
  const ask = startAsk({ idle: { kind: 'never' } });
  await go(room.standby.start(ask));
  return room.standby.at(ask.instanceId, ask.generation);
}

/** `then` is in its image, `now` was on its disk when it died. */
async function died(instance: Instance): Promise<string> {
  await write(instance, 'then');
  await go(instance.store('asked'));
  await write(instance, 'now');
  await fallsBack(instance);
  expect(await read(instance)).toBe('then');
  return asides(instance).at(-1)?.id ?? '';
}

async function fallsBack(instance: Instance): Promise<void> {
  for (const hostId of set.host.sandboxes.keys()) set.host.kill(hostId);
  await instance.check();
  await go(instance.wake());
  await clock.go(200);
}

async function reborn(options: Parameters<typeof rehearse>[1] = {}): Promise<Instance> {
  room.die();
  set.store.crash();
  room = rehearse(set, options);
  await go(room.standby.adopt());
  return room.standby.at(startAsk().instanceId, 1);
}

it('is a snapshot of files alone, told in the history, over a restart too', async () => {
  const id = await died(await started());
  const instance = await reborn();
  const [aside, ...others] = asides(instance);
  expect([aside, others]).toEqual([
    {
      id,
      name: expect.stringMatching(/^disk-at-death-\d{8}T\d{9}Z$/),
      because: 'fall-back',
      state: 'ready',
      atMs: expect.any(Number),
    },
    [],
  ]);
  const history = await room.parts.journal.history(instance.body?.hostId ?? CHILD);
  expect(history.filter(({ what }) => what === 'put aside')).toMatchObject([{ image: id, name: aside?.name }]);
});

it('is gone back to, as a new start on these files, and from there to what was before', async () => {
  const instance = await started();
  const id = await died(instance);
  await write(instance, 'later');
  const { to, before } = await go(instance.snapshots.rewind(asides(instance)[0]?.name ?? ''));
  expect([to.image, await read(instance), instance.report().lost]).toEqual([id, 'now', expect.anything()]);
  expect([instance.imageBytes, disks()]).toEqual([0, [id]]); // it goes back to no image any more when it dies
  await go(instance.snapshots.rewind(before?.image ?? ''));
  expect(await read(instance)).toBe('later');
  await go(instance.snapshots.rewind(id));
  expect(await read(await reborn())).toBe('now');
});

it('is put back on what is dead again: that disk is put aside, too', async () => {
  const instance = await started();
  const id = await died(instance);
  await write(instance, 'later');
  for (const hostId of set.host.sandboxes.keys()) set.host.kill(hostId);
  await instance.check();
  await go(instance.snapshots.rewind(id));
  expect(await read(instance)).toBe('now');
  const [, last] = asides(instance);
  await go(instance.snapshots.rewind(last?.id ?? ''));
  expect(await read(instance)).toBe('later');
});

it('is made a sandbox of its own', async () => {
  const parent = await started();
  const snapshot = await died(parent);
  const from = { instanceId: parent.claim.instanceId, snapshot };
  const who = { instanceId: CHILD, generation: Generation.parse(2), name: SandboxName.parse('child') };
  await go(room.standby.start({ ...startAsk({ idle: { kind: 'never' } }), ...who, from }));
  const child = room.standby.at(CHILD, 2);
  expect([await read(child), await read(parent)]).toEqual(['now', 'then']);
  await write(child, 'of the child');
  await go(child.store('asked'));
  expect([await read(child), await read(parent)]).toEqual(['of the child', 'then']);
  const [receipt] = await room.parts.receipts.of(child.body?.hostId ?? CHILD);
  expect(receipt).toBeDefined();
});

it('goes when somebody lets it go, and with its instance', async () => {
  const instance = await started();
  const id = await died(instance);
  await go(instance.snapshots.remove(id));
  expect([asides(instance), disks()]).toEqual([[], []]);
  await fallsBack(instance);
  expect(disks()).toHaveLength(1);
  await go(room.standby.stop(startAsk().instanceId, startAsk().generation, 'asked'));
  await clock.go(1_000);
  expect([disks(), await set.store.readAll()]).toEqual([[], []]);
});

it('that the host has lost leaves the sandbox as it is', async () => {
  const instance = await started();
  const id = await died(instance);
  await write(instance, 'later');
  set.host.images.delete(id);
  await expect(go(instance.snapshots.rewind(id))).rejects.toMatchObject({ message: /is damaged/ });
  expect([await read(instance), asides(instance)]).toEqual(['later', []]);
});

it('takes its volumes back with it', async () => {
  const hold = { volume: V, generation: Generation.parse(1), sizeMib: 100 };
  await go(room.parts.volumes.hold(hold));
  const instance = await started();
  await go(room.standby.give(instance, { volume: V, generation: Generation.parse(2), path: '/data' }));
  const both = (text: string) => exec(instance, `echo ${text} > /data/file`, { waitMs: 1_000 });
  await both('then');
  await go(instance.store('asked'));
  await both('now');
  await fallsBack(instance);
  expect(await read(instance, '/data/file')).toBe('then');
  const [aside] = asides(instance);
  expect(aside?.volumes).toMatchObject([{ volume: V, path: '/data' }]);
  await go(instance.snapshots.rewind(aside?.id ?? ''));
  expect(await read(instance, '/data/file')).toBe('now');
});

it('is not lost by a node-agent that is killed while the sandbox goes back to it', { timeout: 120_000 }, async () => {
  const diedAt: string[] = [];
  for (let n = 1; n < 60; n++) {
    clock = new StillClock();
    set = stage(clock);
    room = rehearse(set);
    const id = await died(await started());
    const failpoints = dyingAt(n);
    const instance = await reborn({ failpoints });
    instance.snapshots.rewind(id).catch(() => {}); // nobody hears of it
    await clock.go(5_000);
    if (failpoints.diedAt === undefined) break;
    diedAt.push(failpoints.diedAt);
    const back = await reborn();
    expect([failpoints.diedAt, await read(back)]).toEqual([failpoints.diedAt, expect.stringMatching(/^(now|then)$/)]);
    await go(back.snapshots.rewind(id));
    expect([failpoints.diedAt, await read(back)]).toEqual([failpoints.diedAt, 'now']);
  }
  expect(diedAt.filter((at) => at.includes(':boot:')).length).toBeGreaterThan(3);
});

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
