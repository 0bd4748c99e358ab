import { Generation, InstanceId, SandboxName, type FilePoint } from '@torpor/contracts';
import { beforeEach, expect, it } from 'vitest';
import { rehearse, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from '../standby/instance.ts';
import { snapshotsOf } from '../standby/snapshot-report.ts';
import { compareOnHost } from './compare.ts';

let clock: StillClock;
let set: Stage;
let room: Rehearsal;
let untidy: string[];

beforeEach(() => {
  clock = new StillClock();
  set = stage(clock, { latencyMs: { 'image.save': [100, 100], 'image.verify': [400, 400] } });
  room = rehearse(set);
  untidy = [];
});

/** A fork is told that it is another machine. */
const IDENTITY = 'added etc/machine-id';
const CHILD = InstanceId.parse('ibbbbbbbbbbb');

async function started(): Promise<Instance> {
  const ask = startAsk({ env: {}, idle: { kind: 'never' } });
  await room.standby.start(ask);
  return room.standby.at(ask.instanceId, ask.generation);
}

/** Lets time pass until it is answered. */
async function go<T>(work: Promise<T>): Promise<T> {
  const watched = { over: false };
  const over = () => void (watched.over = true);
  work.then(over, over);
  while (!watched.over) await clock.go(10);
  return await work;
}

async function write(instance: Instance, name: string, text: string): Promise<void> {
  const stay = await go(Promise.resolve(instance.enter('request')));
  const shell = `echo ${text} > /root/${name}`;
  await go(stay.guest.json('POST', '/v1/processes', { shell, waitMs: 1_000 }));
  stay.leave();
}

async function compared(from: FilePoint, to: FilePoint) {
  const parts = {
    standby: room.standby,
    driver: room.parts.driver,
    untidy: ({ reason }: { reason: string }) => void untidy.push(reason),
  };
  const { changes } = await go(compareOnHost(parts, { from, to }));
  return changes.map(({ what, path }) => `${what} ${path}`);
}

function point({ claim: { instanceId, generation } }: Instance, at: FilePoint['at']): FilePoint {
  return { instanceId, generation, at };
}

const kinds = ({ shelf }: Instance) => snapshotsOf(shelf).map(({ because }) => because);

it('compares what a sandbox is now with its last snapshot, and leaves nothing behind', async () => {
  const instance = await started();
  await write(instance, 'a', 'one');
  await write(instance, 'b', 'one');
  await go(instance.snapshots.make({ because: 'asked', name: 'one' }));
  await write(instance, 'b', 'two');
  await write(instance, 'c', 'two');
  expect(await compared(point(instance, 'last'), point(instance, 'now'))).toEqual(['changed root/b', 'added root/c']);
  expect([kinds(instance), instance.state, untidy]).toEqual([['asked'], 'running', []]);
});

it('compares a sandbox with its fork', async () => {
  const instance = await started();
  await write(instance, 'a', 'one');
  const { image } = await go(instance.snapshots.make({ because: 'fork' }));
  const from = { instanceId: instance.claim.instanceId, snapshot: image };
  const generation = Generation.parse(2);
  await go(
    room.standby.start({
      ...startAsk({ env: {} }),
      instanceId: CHILD,
      generation,
      name: SandboxName.parse('child'),
      from,
    }),
  );
  const fork = room.standby.at(CHILD, generation);
  await write(fork, 'a', 'fork');
  await write(instance, 'b', 'parent');
  expect(await compared(point(instance, { snapshot: image }), point(fork, 'now'))).toEqual([
    IDENTITY,
    'changed root/a',
  ]);
  expect(await compared(point(instance, 'now'), point(fork, 'now'))).toEqual([
    IDENTITY,
    'changed root/a',
    'removed root/b',
  ]);
});

it('makes no snapshot of what sleeps on the disk, and does not wake it', async () => {
  const instance = await started();
  await write(instance, 'a', 'one');
  await go(instance.snapshots.make({ because: 'asked', name: 'one' }));
  await write(instance, 'a', 'two');
  await go(instance.store('asked'));
  expect(await compared(point(instance, { snapshot: 'one' }), point(instance, 'now'))).toEqual(['changed root/a']);
  expect([instance.state, kinds(instance)]).toEqual(['stored', ['asked', 'store']]);
});

it('says that there is no snapshot to compare with, and lets go of what it made when the comparison fails', async () => {
  const instance = await started();
  await expect(compared(point(instance, 'last'), point(instance, 'now'))).rejects.toMatchObject({ code: 'not_found' });
  await go(instance.snapshots.make({ because: 'asked', name: 'one' }));
  set.host.failNext('files.compare', 'before');
  await expect(compared(point(instance, 'last'), point(instance, 'now'))).rejects.toMatchObject({
    code: 'unavailable',
  });
  expect(kinds(instance)).toEqual(['asked']);
});
