/** Snapshots that outlive their sandbox. */
import { Generation, InstanceId, SandboxName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { beforeEach, describe, expect, it } from 'vitest';
import { rehearse, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from './instance.ts';

const { instanceId: ID, generation: FIRST } = startAsk();
const CHILD = InstanceId.parse('ibbbbbbbbbbb');
let clock: StillClock;
let set: Stage;
let room: Rehearsal;

beforeEach(() => {
  clock = new StillClock();
  set = stage(clock);
  room = rehearse(set);
});

async function go<T>(work: Promise<T>): Promise<T> {
  const watched = { over: false };
  const over = () => void (watched.over = true);
  work.then(over, over);
  while (!watched.over) await clock.go(10);
  return await work;
}

async function exec(instance: Instance, shell: string): Promise<string> {
  const stay = await go(Promise.resolve(instance.enter('request')));
  try {
    return (await go(stay.guest.json<{ stdout: string }>('POST', '/v1/processes', { shell, waitMs: 500 }))).stdout;
  } finally {
    stay.leave();
  }
}

/** A sandbox that has ended but for the snapshot `kept`; it had another one. */
async function ended(): Promise<{ kept: string }> {
  await room.standby.start(startAsk({ idle: { kind: 'never' } }));
  const instance = room.standby.at(ID, FIRST);
  await exec(instance, 'echo then > /root/file');
  const { image: kept } = await go(instance.snapshots.make({ because: 'asked', name: 'kept' }));
  await go(instance.snapshots.make({ because: 'asked', name: 'other' }));
  await go(room.standby.stop(ID, FIRST, 'asked', [kept]));
  await clock.go(1_000);
  return { kept };
}

async function reborn(): Promise<void> {
  room.die();
  set.store.crash();
  room = rehearse(set);
  await go(room.standby.adopt());
  await clock.go(1_000);
}

async function forked(snapshot: string): Promise<Instance> {
  const from = { instanceId: ID, snapshot };
  const generation = Generation.parse(2);
  await go(
    room.standby.start({ ...startAsk(), instanceId: CHILD, generation, name: SandboxName.parse('child'), from }),
  );
  return room.standby.at(CHILD, 2);
}

const kept = () => room.standby.shelfOf(ID, FIRST).shelf.snapshots.map(({ name }) => name);

describe('a snapshot that is kept', () => {
  it('is all that is left of its sandbox, which is reported no more', async () => {
    const { kept: image } = await ended();
    expect([[...set.host.images.keys()], set.host.disks.size, set.host.nets.size]).toEqual([[image], 0, 0]);
    expect([room.standby.reports(), kept(), room.parts.slots.freeCount]).toEqual([[], ['kept'], 16_384]);
    await expect(room.standby.shelfOf(ID, FIRST).snapshots.rewind('kept')).rejects.toMatchObject({ code: 'gone' });
  });

  it('is made into another sandbox, also after a restart', async () => {
    const { kept: image } = await ended();
    await reborn();
    expect([kept(), room.parts.slots.freeCount]).toEqual([['kept'], 16_384]);
    expect(await exec(await forked(image), 'cat /root/file; hostname')).toBe('then\nchild\n');
  });

  it('leaves nothing when it is deleted, not even a journal', async () => {
    await ended();
    await go(room.standby.removeSnapshot(ID, FIRST, 'kept'));
    expect([set.host.images.size, await set.store.readAll()]).toEqual([0, []]);
    expect(() => room.standby.shelfOf(ID, FIRST)).toThrow(/does not hold it/);
  });

  it('is kept though the node-agent dies in the middle of the delete', async () => {
    await room.standby.start(startAsk({ idle: { kind: 'never' } }));
    const { image } = await go(room.standby.at(ID, FIRST).snapshots.make({ because: 'asked', name: 'kept' }));
    set.host.failNext(
      'disk.delete',
      'before',
      new Failure('unavailable', 'the host is in trouble', { retryable: true }),
    );
    await go(room.standby.stop(ID, FIRST, 'asked', [image]));
    await reborn();
    expect([kept(), [...set.host.images.keys()], set.host.disks.size]).toEqual([['kept'], [image], 0]);
  });

  it('that is not there any more keeps nothing', async () => {
    await room.standby.start(startAsk());
    await go(room.standby.stop(ID, FIRST, 'asked', ['never-was']));
    await clock.go(1_000);
    expect([set.host.images.size, await set.store.readAll()]).toEqual([0, []]);
  });
});
