/** Volumes on the true stack: what is written to one is there after every sleep, in the next sandbox, and whatever dies meanwhile. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { createOne, type Made } from '../bench/lib/sandboxes.ts';
import type { Stack } from '../bench/lib/stack.ts';
import { sh, start } from './inside.ts';
import { reportOf, store } from './node-calls.ts';
import { ownInstallation, type OwnInstallation } from './own-installation.ts';
import { freshName, isFull, isSoak } from './test-stack.ts';
import { until } from './until.ts';

const exec = promisify(execFile);
const PATIENCE_MS = 90_000;
const SIZE_MIB = 64;
const IDLE = { memoryMib: 512, idle: { kind: 'never' } };

const give = ['after-fsync', 'step:volume.attach:after', 'done:before-fsync'].map((at) => `journal:volume.give:${at}`);
const take = ['after-fsync', 'step:volume.detach:after', 'done:before-fsync'].map((at) => `journal:volume.take:${at}`);
const points = isSoak
  ? { give: [...give, 'journal:volume.give:before-fsync', 'volume.attach:before', 'volume.attach:after'], take }
  : { give: isFull ? [...give.slice(1, 2), 'volume.attach:before'] : give.slice(1, 2), take: take.slice(1, 2) };

let installation: OwnInstallation;
let stack: Stack;
let sandbox: Made;
let data: string;

beforeAll(async () => {
  installation = await ownInstallation('volumes', ['--pool', '1', '--disk', '4']);
  stack = await installation.up();
  data = freshName('data');
  await volumes().create(data, { sizeMib: SIZE_MIB });
  sandbox = await createOne(stack, freshName('box'), { ...IDLE, volumes: [{ name: data, path: '/data' }] });
});

afterAll(() => installation?.purge());

const volumes = () => api(stack).volumes;
const inside = async (command: string, box = sandbox) => (await sh(stack, box, command)).stdout.trim();

it('keeps what was written 1 ms before the sleep, not fsynced, through ten stores', { timeout: 300_000 }, async () => {
  expect((await volumes().get(data)).attachment).toMatchObject({
    sandbox: sandbox.name,
    path: '/data',
    state: 'attached',
  });
  await start(
    stack,
    sandbox,
    'writer',
    `python3 -c "
import itertools, os, time
print(os.getpid(), file=open('/tmp/writer', 'w'))
files = [open(place, 'w') for place in ('/data/last', '/blaxel/last', '/tmp/last')]
for n in itertools.count():
    for file in files:
        file.seek(0); file.write(str(n).rjust(12)); file.flush()
    time.sleep(0.001)
"`,
  );
  let before = 0;
  for (let round = 1; round <= 10; round++) {
    await until('it writes', PATIENCE_MS, async () => Number(await inside('cat /data/last')) > before);
    expect(await store(stack, sandbox.name)).toBe('stored');
    const all = (
      await inside(
        'kill -STOP $(cat /tmp/writer); cat /data/last /blaxel/last /tmp/last; kill -CONT $(cat /tmp/writer)',
      )
    )
      .match(/\d+/g)
      ?.map(Number);
    // The three are written one after another, and go on together.
    expect([round, all?.length, Math.max(...(all ?? [0])) - Math.min(...(all ?? [9])) <= 1]).toEqual([round, 3, true]);
    before = Math.min(...(all ?? []));
  }
  await inside('kill $(cat /tmp/writer); sync');
});

it('ends at its size, and where it was made larger', { timeout: 120_000 }, async () => {
  const fill = (mib: number) => inside(`dd if=/dev/urandom of=/data/big bs=1M count=${mib} conv=fsync 2>&1 | tail -4`);
  expect(await fill(SIZE_MIB + 20)).toMatch(/No space left|quota exceeded/i);
  expect((await volumes().get(data)).usedMib).toBeGreaterThan(SIZE_MIB * 0.9);
  await expect(volumes().resize(data, 32)).rejects.toThrow(/holds \d+ MiB/);
  expect(await volumes().resize(data, 2 * SIZE_MIB)).toMatchObject({ sizeMib: 2 * SIZE_MIB });
  expect(await fill(SIZE_MIB + 20)).not.toMatch(/No space left|quota exceeded/i);
  await inside('rm /data/big; sync');
  await until('the space is free', PATIENCE_MS, async () => ((await volumes().get(data)).usedMib ?? 99) < 32);
  expect(await volumes().resize(data, SIZE_MIB)).toMatchObject({ sizeMib: SIZE_MIB });
  await expect(volumes().create(freshName('huge'), { sizeMib: 1_000_000 })).rejects.toThrow(/507.*no_space|MiB/);
});

it('stays where its images know it, whatever root does inside', { timeout: 120_000 }, async () => {
  const moved = await sh(
    stack,
    sandbox,
    `mkdir /torpor/vol/deep; python3 -c "import os; os.chdir('/torpor/vol'); os.rename(os.listdir()[0], 'away')"; ls /torpor/vol`,
  );
  expect(moved.stdout.trim()).toMatch(/^v[a-z0-9]{15}$/);
  expect(await store(stack, sandbox.name)).toBe('stored');
  expect(await inside('test -s /data/last && echo whole')).toBe('whole');
});

it('goes back with a snapshot of its sandbox, and is each fork’s own', { timeout: 300_000 }, async () => {
  await inside('echo then > /data/file; echo then > /blaxel/file');
  await api(stack).snapshot(sandbox.name, 'then');
  await inside('echo now > /data/file; echo now > /blaxel/file');
  const { before } = await api(stack).restore(sandbox.name, 'then');
  expect(await inside('cat /data/file /blaxel/file')).toBe('then\nthen');
  await api(stack).restore(sandbox.name, before?.id ?? '');
  expect(await inside('cat /data/file /blaxel/file')).toBe('now\nnow');
  const { forks } = await api(stack).fork(sandbox.name, { as: freshName('fork'), count: 1, snapshot: 'then' });
  const [fork] = forks;
  if (!fork) throw new Error('there is no fork');
  const box = { ...sandbox, name: fork.name, url: fork.url };
  expect(await inside('cat /data/file', box)).toBe('then');
  await inside('echo of the fork > /data/file', box);
  expect(await store(stack, fork.name)).toBe('stored');
  expect([await inside('cat /data/file', box), await inside('cat /data/file')]).toEqual(['of the fork', 'now']);
  const own = (await volumes().list()).find(({ attachment }) => attachment?.sandbox === fork.name);
  expect(own?.id).not.toBe((await volumes().get(data)).id);
  await api(stack).delete(fork.name);
  await until(
    'the fork’s own copy is gone',
    PATIENCE_MS,
    async () => !(await volumes().list()).some(({ id }) => id === own?.id),
  );
});

it(
  'is taken back from a running sandbox unless something uses it, and given to another',
  { timeout: 120_000 },
  async () => {
    await start(stack, sandbox, 'user', 'cd /data && exec sleep 1000');
    await until('it is used', PATIENCE_MS, async () => (await inside('pgrep -x sleep || true')) !== '');
    await expect(volumes().detach(data)).rejects.toThrow(/a program uses/);
    await inside('pkill -x sleep; true');
    await until('it is detached', PATIENCE_MS, () =>
      volumes()
        .detach(data)
        .then(
          () => true,
          () => false,
        ),
    );
    expect(await inside('ls /data /torpor/vol')).not.toMatch(/last|v[a-z0-9]{15}/);
    await volumes().attach(data, { sandbox: sandbox.name, path: '/elsewhere' });
    expect(await inside('cat /elsewhere/file')).toBe('now');
    await expect(volumes().delete(data)).rejects.toThrow(/attached/);
  },
);

it('that is gone from the host comes back with its sandbox from the disk', { timeout: 120_000 }, async () => {
  expect(await store(stack, sandbox.name)).toBe('stored');
  const { id } = await volumes().get(data);
  const directory = join(stack.stateDir, 'pool/i', sandbox.hostId, 'vol');
  await exec('chattr', ['-i', directory]);
  await exec('btrfs', ['subvolume', 'delete', join(directory, id)]);
  await exec('chattr', ['+i', directory]);
  expect(await inside('cat /elsewhere/file')).toBe('now');
  expect((await reportOf(stack, sandbox.name)).lost).toBeUndefined();
  expect((await volumes().get(data)).usedMib).toBeDefined();
});

it('is copied as it is, and the copy goes its own way', { timeout: 120_000 }, async () => {
  const [kept, copy] = [freshName('kept'), freshName('copy')];
  await volumes().snapshot(data, kept);
  await inside('echo later > /elsewhere/file');
  await volumes().create(copy, { from: kept });
  await volumes().attach(copy, { sandbox: sandbox.name, path: '/copy' });
  expect(await inside('cat /elsewhere/file /copy/file')).toBe('later\nnow');
  expect(await store(stack, sandbox.name)).toBe('stored');
  expect(await inside('cat /elsewhere/file /copy/file')).toBe('later\nnow');
  await volumes().detach(copy);
  for (const name of [copy, kept]) await volumes().delete(name);
});

it('outlives its sandbox, and is the next one’s', { timeout: 120_000 }, async () => {
  await api(stack).delete(sandbox.name);
  sandbox = await createOne(stack, freshName('next'), { ...IDLE, volumes: [{ name: data, path: '/data' }] });
  expect(await inside('cat /data/file')).toBe('later');
});

describe('when the node-agent dies in the middle', () => {
  it.for(points.take)('of a detach, at %s', { timeout: 3 * PATIENCE_MS }, async (point) => {
    await dies(point, () => volumes().detach(data));
    await until('it is settled', PATIENCE_MS, async () => {
      const state = (await volumes().get(data)).attachment?.state;
      return state === undefined || state === 'attached';
    });
    await volumes().attach(data, { sandbox: sandbox.name, path: '/data' });
    expect(await inside('cat /data/file')).toBe('later');
  });

  it.for(points.give)('of an attach, at %s', { timeout: 3 * PATIENCE_MS }, async (point) => {
    await until('it is detached', PATIENCE_MS, async () => (await volumes().detach(data)).attachment === undefined);
    await dies(point, () => volumes().attach(data, { sandbox: sandbox.name, path: '/data' }));
    await until(
      'it is attached',
      PATIENCE_MS,
      async () => (await volumes().get(data)).attachment?.state === 'attached',
    );
    expect(await inside('cat /data/file; echo more >> /data/log; wc -l < /data/log')).toMatch(/^later\n\d+$/);
    expect(await store(stack, sandbox.name)).toBe('stored');
    expect(await inside('cat /data/file')).toBe('later');
  });
});

async function dies(point: string, act: () => Promise<unknown>): Promise<void> {
  const armed = join(installation.failpointsDir, point);
  await writeFile(armed, '');
  try {
    await act().catch(() => {}); // whoever asks is told that nobody answered
    expect([point, existsSync(armed)]).toEqual([point, false]);
    await until('every room works again', PATIENCE_MS, async () => (await installation.status()).ready);
    await until('the sandbox can be used', PATIENCE_MS, () =>
      sh(stack, sandbox, 'true').then(
        () => true,
        () => false,
      ),
    );
  } finally {
    await rm(armed, { force: true });
  }
}
