/** The node-agent, or hostd, dies of SIGKILL in the middle of snapshots, restores of them, and forks: each has happened or has not, and nothing else is lost. */
import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { createOne, type Made } from '../bench/lib/sandboxes.ts';
import type { Stack } from '../bench/lib/stack.ts';
import { sh } from './inside.ts';
import { ownInstallation, type OwnInstallation } from './own-installation.ts';
import { freshName, isFull, isSoak } from './test-stack.ts';
import { until } from './until.ts';

const PATIENCE_MS = 90_000;
/** On the disk, and in memory. */
const PLACES = ['/blaxel/file', '/tmp/file'];

/** What follows one step comes before the next: both edges of each are for the soak. */
const edges = (name: string) => (isSoak ? [`${name}:before`, `${name}:after`] : [`${name}:after`]);
const steps = (operation: string, verbs: readonly string[]) =>
  verbs.flatMap((verb) => edges(`journal:${operation}:step:${verb}`));
const IMAGE = ['image.save', 'disk.snapshot', 'image.seal', 'image.verify'];
const RESTORE = ['disk.restore', 'sandbox.create', 'sandbox.restore'];
const quick = {
  snapshot: ['journal:snapshot:step:disk.snapshot:after', 'image.seal:after'],
  restore: [
    'journal:release:step:sandbox.delete:after',
    'journal:restore:step:disk.restore:after',
    'sandbox.restore:after',
  ],
  fork: ['journal:create:step:sandbox.restore:after', 'disk.restore:after'],
};
const full = {
  snapshot: [...steps('snapshot', IMAGE), 'journal:snapshot:done:before-fsync', ...IMAGE.flatMap(edges)],
  restore: [
    ...steps('store', IMAGE),
    ...steps('release', ['sandbox.delete']),
    ...steps('restore', RESTORE),
    ...RESTORE.flatMap(edges),
  ],
  fork: [...steps('create', RESTORE), 'journal:claim:after-fsync', ...RESTORE.flatMap(edges)],
};
const points = isFull ? full : quick;

let installation: OwnInstallation;
let stack: Stack;
let sandbox: Made;

beforeAll(async () => {
  installation = await ownInstallation('snapshot deaths', ['--pool', '1', '--disk', '4']);
  stack = await installation.up();
  sandbox = await createOne(stack, freshName('box'), { memoryMib: 512, idle: { kind: 'never' } });
});

afterAll(() => installation?.purge());

describe('a snapshot', () => {
  it.for(points.snapshot)('dies at %s', { timeout: 4 * PATIENCE_MS }, async (point) => {
    await write(sandbox, 'now');
    const name = freshName('snap');
    await dies(point, () => api(stack).snapshot(sandbox.name, name));
    expect(await read(sandbox)).toBe('now');
    let made = await api(stack).snapshots(sandbox.name);
    await until('no snapshot is half made', PATIENCE_MS, async () => {
      made = await api(stack).snapshots(sandbox.name);
      return !made.some(({ state }) => state === 'making');
    });
    if (made.some((one) => one.name === name && one.state === 'ready')) {
      await write(sandbox, 'later');
      await api(stack).restore(sandbox.name, name);
      expect(await read(sandbox)).toBe('now');
    }
  });
});

describe('a restore in place', () => {
  it.for(points.restore)('dies at %s', { timeout: 4 * PATIENCE_MS }, async (point) => {
    const name = freshName('then');
    await write(sandbox, 'then');
    await api(stack).snapshot(sandbox.name, name);
    await write(sandbox, 'now');
    await dies(point, () => api(stack).restore(sandbox.name, name));
    expect(['then', 'now']).toContain(await read(sandbox));
    await api(stack).restore(sandbox.name, name);
    expect(await read(sandbox)).toBe('then');
  });
});

describe('a fork', () => {
  it.for(points.fork)('dies at %s', { timeout: 4 * PATIENCE_MS }, async (point) => {
    await write(sandbox, 'now');
    const as = freshName('fork');
    const isMade = await dies(point, () => api(stack).fork(sandbox.name, { as, count: 1 }));
    expect(await read(sandbox)).toBe('now');
    // One that was not answered is whole, or wholly absent in the end.
    if (isMade || !(await isGone(as))) {
      const fork = { ...sandbox, name: as, url: (await api(stack).get(as)).url };
      expect(await read(fork)).toBe('now');
      await api(stack).delete(as);
    }
  });
});

async function write(box: Made, text: string): Promise<void> {
  for (const place of PLACES) await sh(stack, box, `echo ${text} > ${place}`);
}

/** What both places say; whatever they say differently is told. */
async function read(box: Made): Promise<string> {
  const said = await Promise.all(PLACES.map(async (place) => (await sh(stack, box, `cat ${place}`)).stdout.trim()));
  return [...new Set(said)].join(' but ');
}

/** Whether what was asked for was answered as done. Somebody died in it, and the sandbox can be used again. */
async function dies(point: string, act: () => Promise<unknown>): Promise<boolean> {
  const armed = join(installation.failpointsDir, point);
  await writeFile(armed, '');
  try {
    const isDone = await act().then(
      () => true,
      () => false,
    );
    expect([point, existsSync(armed)]).toEqual([point, false]);
    await until('every room works again', PATIENCE_MS, async () => (await installation.status()).ready);
    await until('the sandbox can be used', PATIENCE_MS, () =>
      sh(stack, sandbox, 'true').then(
        () => true,
        () => false,
      ),
    );
    return isDone;
  } finally {
    await rm(armed, { force: true });
  }
}

/** Repair takes its time for what nobody works on any more. */
async function isGone(name: string): Promise<boolean> {
  let isThere = true;
  await until(`${name} is settled`, 2 * PATIENCE_MS, async () => {
    const phase = await api(stack)
      .get(name)
      .then(
        (one) => one.phase,
        () => 'none',
      );
    isThere = phase === 'ready';
    return phase !== 'creating';
  });
  return !isThere;
}
