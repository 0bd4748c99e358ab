import { Generation, InstanceId, SandboxName } from '@torpor/contracts';
import type { InstanceDriver, PackedFiles } from '@torpor/runtime';
import { beforeEach, expect, it } from 'vitest';
import { rehearse, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from '../standby/instance.ts';
import { snapshotsOf } from '../standby/snapshot-report.ts';
import { mergeOnHost } from './merge.ts';

let clock: StillClock;
let set: Stage;
let room: Rehearsal;
let parent: Instance;
let fork: Instance;
let base: string;

const CHILD = InstanceId.parse('ibbbbbbbbbbb');

beforeEach(async () => {
  clock = new StillClock();
  set = stage(clock, { latencyMs: { 'image.save': [100, 100], 'image.verify': [400, 400] } });
  room = rehearse(set);
  const ask = startAsk({ env: {}, idle: { kind: 'never' } });
  await room.standby.start(ask);
  parent = room.standby.at(ask.instanceId, ask.generation);
  await sh(parent, 'echo base > /root/both');
  await sh(parent, 'echo base > /root/theirs');
  ({ image: base } = await go(parent.snapshots.make({ because: 'fork' })));
  const from = { instanceId: ask.instanceId, snapshot: base };
  const generation = Generation.parse(2);
  await go(room.standby.start({ ...ask, instanceId: CHILD, generation, name: SandboxName.parse('child'), from }));
  fork = room.standby.at(CHILD, generation);
  await sh(fork, 'echo fork > /root/theirs');
  await sh(fork, 'echo fork > /root/new');
});

/** Lets time pass until it is answered. */
async function go<T>(work: Promise<T>): Promise<T> {
  const watched = { over: false };
  const over = () => void (watched.over = true);
  work.then(over, over);
  while (!watched.over) await clock.go(10);
  return await work;
}

async function sh(instance: Instance, shell: string): Promise<string> {
  const stay = await go(Promise.resolve(instance.enter('request')));
  const done = await go(stay.guest.json<{ stdout: string }>('POST', '/v1/processes', { shell, waitMs: 1_000 }));
  stay.leave();
  return done.stdout;
}

function merge(how: { settle?: 'fork' | 'here'; dryRun?: boolean } = {}, driver = room.parts.driver) {
  const parts = {
    standby: room.standby,
    driver,
    untidy: ({ reason }: { reason: string }) => expect.fail(reason),
  };
  const at = ({ claim: { instanceId, generation } }: Instance) => ({ instanceId, generation });
  const ask = {
    base: { ...at(parent), at: { snapshot: base } },
    fork: { ...at(fork), at: 'now' as const },
    here: at(parent),
    dryRun: false,
    ...how,
  };
  return go(mergeOnHost(parts, ask));
}

const kinds = ({ shelf }: Instance) => snapshotsOf(shelf).map(({ because }) => because);
const paths = (all: readonly { path: string }[]) => all.map(({ path }) => path);

it('carries what only the fork has changed, and keeps what was there', async () => {
  await sh(parent, 'echo parent > /root/mine');
  const done = await merge();
  expect([done.isMerged, paths(done.steps), done.conflicts, done.left]).toEqual([
    true,
    ['root/new', 'root/theirs'],
    [],
    ['etc/machine-id'],
  ]);
  expect(await sh(parent, 'cat /root/theirs')).toBe('fork\n');
  expect(await sh(parent, 'cat /root/mine')).toBe('parent\n');
  expect([kinds(parent), kinds(fork), done.before?.image]).toEqual([
    ['fork', 'merge'],
    [],
    snapshotsOf(parent.shelf)[1]?.id,
  ]);
  expect((await merge()).steps).toEqual([]);
});

it('changes nothing where both have changed the same, until somebody settles it', async () => {
  await sh(fork, 'echo fork > /root/both');
  await sh(parent, 'echo parent > /root/both');
  const refused = await merge();
  expect([refused.isMerged, paths(refused.conflicts), refused.before]).toEqual([false, ['root/both'], undefined]);
  expect([await sh(parent, 'cat /root/theirs'), kinds(parent)]).toEqual(['base\n', ['fork']]);
  expect((await merge({ settle: 'here' })).isMerged).toBe(true);
  expect([await sh(parent, 'cat /root/both'), await sh(parent, 'cat /root/theirs')]).toEqual(['parent\n', 'fork\n']);
  expect(paths((await merge({ settle: 'fork' })).steps)).toEqual(['root/both']);
  expect(await sh(parent, 'cat /root/both')).toBe('fork\n');
});

it('tells what it would do without doing it', async () => {
  const told = await merge({ dryRun: true });
  expect([told.isMerged, paths(told.steps), told.before]).toEqual([false, ['root/new', 'root/theirs'], undefined]);
  expect([await sh(parent, 'cat /root/theirs'), kinds(parent)]).toEqual(['base\n', ['fork']]);
});

it('wakes a parent that sleeps on the disk, and takes the fork as it sleeps there', async () => {
  await go(parent.store('asked'));
  await go(fork.store('asked'));
  expect((await merge()).isMerged).toBe(true);
  expect([await sh(parent, 'cat /root/theirs'), fork.state]).toEqual(['fork\n', 'stored']);
});

it('changes nothing when the base is gone, and leaves nothing behind', async () => {
  await go(parent.snapshots.remove(base));
  await expect(merge()).rejects.toMatchObject({ code: 'not_found', details: { snapshot: base } });
  expect(kinds(parent)).toEqual([]);
});

it('does nothing by halves when the host fails before the guest was asked', async () => {
  set.host.failNext('files.pack', 'before');
  await expect(merge()).rejects.toMatchObject({ code: 'unavailable' });
  expect([await sh(parent, 'cat /root/theirs'), kinds(parent)]).toEqual(['base\n', ['fork']]);
});

/** The host, with something that befalls what it has packed. */
function meddling(befalls: (packed: PackedFiles) => Promise<PackedFiles>): InstanceDriver {
  const { driver } = room.parts;
  return { ...driver, packFiles: async (spec) => befalls(await driver.packFiles(spec)) };
}

it('changes nothing that was changed while it was made, and leaves nothing behind', async () => {
  const driver = meddling(async (packed) => {
    await sh(parent, 'echo later > /root/theirs');
    return packed;
  });
  await expect(merge({}, driver)).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringContaining('/root/theirs'),
  });
  expect([await sh(parent, 'cat /root/theirs'), kinds(parent)]).toEqual(['later\n', ['fork']]);
});

it('keeps what was there when nobody knows what the guest has done, and says so', async () => {
  const read = () => {
    throw new Error('the file broke off');
  };
  const driver = meddling((packed) => Promise.resolve({ ...packed, read }));
  const error = await merge({}, driver).catch((failure: Error) => failure);
  const [, before] = snapshotsOf(parent.shelf);
  expect(before).toMatchObject({ because: 'merge', state: 'ready' });
  expect(error).toMatchObject({ message: expect.stringContaining(`is kept as the snapshot ${before?.id}`) });
});
