/**
 * Each step of the journal and each verb of hostd has a failpoint. Whoever comes by one dies of SIGKILL there; the supervisor starts it again; and then
 * the host must show what the journal says and nothing else, with every answered create alive and every unanswered one whole or wholly absent.
 */
import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import type { Stack } from '../bench/lib/stack.ts';
import { Counter, exec } from './counter.ts';
import { readJournal } from './host-sets.ts';
import { ownInstallation, type OwnInstallation } from './own-installation.ts';
import { settled } from './settled.ts';
import { freshName, isFull } from './test-stack.ts';
import { until } from './until.ts';

const POOL = 1;
const RECOVERY_MS = 10_000;
/** Not what the pool holds: such a create goes the cold way, in the middle of a request. */
const COLD = { memoryMib: 512 };

const edges = (name: string) => [`${name}:before`, `${name}:after`];
const fsync = (name: string) => [`${name}:before-fsync`, `${name}:after-fsync`];
const createPoints = [
  ...fsync('journal:create'),
  ...['disk.create', 'net.create', 'sandbox.create', 'sandbox.start', 'guest.health'].flatMap((step) =>
    edges(`journal:create:step:${step}`),
  ),
  ...fsync('journal:create:done'),
];
const claimPoints = [...fsync('journal:claim'), ...fsync('journal:claim:done')];
const destroyPoints = [
  ...fsync('journal:destroy'),
  ...['sandbox.delete', 'net.delete', 'disk.delete'].flatMap((step) => edges(`journal:destroy:step:${step}`)),
  ...edges('journal:forget'),
];
const hostdCreatePoints = ['disk.create', 'net.create', 'sandbox.create', 'sandbox.start'].flatMap(edges);
const hostdClaimPoints = edges('sandbox.resume');
const hostdDestroyPoints = ['sandbox.delete', 'net.delete', 'disk.delete'].flatMap(edges);

const quick = {
  cold: ['journal:create:step:sandbox.create:after', 'sandbox.create:after'],
  refill: ['journal:create:step:net.create:after'],
  claim: ['journal:claim:after-fsync', 'sandbox.resume:after'],
  destroy: ['journal:destroy:step:sandbox.delete:after', 'journal:forget:before', 'net.delete:before'],
};
const full = {
  cold: [...createPoints, ...claimPoints, ...hostdCreatePoints],
  refill: [...createPoints, ...hostdCreatePoints, ...edges('sandbox.pause')],
  claim: [...claimPoints, ...hostdClaimPoints],
  destroy: [...destroyPoints, ...hostdDestroyPoints],
};
const points = isFull ? full : quick;

let installation: OwnInstallation;
let stack: Stack;
let witnesses: readonly Counter[] = [];
const recoveries: { point: string; ms: number }[] = [];

beforeAll(async () => {
  installation = await ownInstallation('death', ['--pool', String(POOL), '--disk', '4']);
  stack = await installation.up();
  witnesses = [await Counter.start(stack, freshName('awake')), await Counter.start(stack, freshName('asleep'))];
  await settled(stack, POOL);
});

afterAll(async () => {
  const worst = recoveries.toSorted((a, b) => b.ms - a.ms).slice(0, 3);
  const told = worst.map(({ point, ms }) => `${point} ${(ms / 1000).toFixed(1)} s`).join(', ');
  if (worst.length > 0) process.stdout.write(`recovered from ${recoveries.length} deaths; the slowest: ${told}\n`);
  await installation?.purge();
});

describe('a create on its cold way', () => {
  it.for(points.cold)('dies at %s', (point) => dies(point, () => createAndJudge(COLD)));
});

describe('a create out of the pool', () => {
  it.for(points.claim)('dies at %s', (point) => dies(point, () => createAndJudge({})));
});

describe('the refilling of the pool', () => {
  it.for(points.refill)('dies at %s', (point) => dies(point, () => createAndJudge({})));
});

describe('a delete', () => {
  it.for(points.destroy)('dies at %s', async (point) => {
    const name = freshName('gone');
    await api(stack).create({ name, ...COLD });
    await settled(stack, POOL);
    await dies(point, async () => {
      const answered = await succeeds(api(stack).delete(name));
      return async () => {
        // Unanswered, it may live on whole; answered, it may not.
        if (!answered && (await isUsable(name))) await api(stack).delete(name);
        await until(`${name} is wholly absent`, RECOVERY_MS, () => isAbsent(name));
      };
    });
  });
});

/** Arms the point, acts, and judges once the host has settled. */
async function dies(point: string, act: () => Promise<() => Promise<void>>): Promise<void> {
  await Promise.all(witnesses.slice(1).map(({ made }) => api(stack).pause(made.name)));
  const armed = join(installation.failpointsDir, point);
  await writeFile(armed, '', { mode: 0o666 });
  const acting = act();
  try {
    await until(`somebody comes by ${point}`, 20_000, async () => !existsSync(armed));
  } finally {
    await rm(armed, { force: true });
  }
  const [judge, ms] = await Promise.all([acting, settled(stack, POOL)]);
  recoveries.push({ point, ms });
  await judge();
  await Promise.all(witnesses.map((witness) => witness.ask(`/${encodeURIComponent(point)}`, RECOVERY_MS)));
  await settled(stack, POOL);
}

/** An answered create must be usable, an unanswered one usable or absent. */
async function createAndJudge(more: Record<string, unknown>): Promise<() => Promise<void>> {
  const name = freshName('made');
  const answered = await succeeds(api(stack).create({ name, idle: { kind: 'never' }, ...more }));
  return async () => {
    if (answered) expect(await isUsable(name), `${name}, whose create was answered, is usable`).toBe(true);
    else
      await until(
        `${name}, whose create was not answered, is whole or wholly absent`,
        RECOVERY_MS,
        async () => (await isUsable(name)) || isAbsent(name),
      );
    if (!(await isAbsent(name))) await api(stack).delete(name);
  };
}

async function isUsable(name: string): Promise<boolean> {
  try {
    const { url } = await api(stack).get(name);
    return (await exec(stack, { url }, { command: 'echo whole', waitForCompletion: true }))['stdout'] === 'whole\n';
  } catch {
    return false; // whatever was refused is not usable
  }
}

async function isAbsent(name: string): Promise<boolean> {
  const told = await api(stack)
    .get(name)
    .then(
      ({ phase }) => phase ?? 'unknown',
      (error: unknown) => String(error),
    );
  // What has ended may be read about for a while.
  const isGone = told === 'terminated' || / 404: /.test(told);
  return isGone && !(await readJournal(stack)).some((entry) => entry.name === name);
}

async function succeeds(asked: Promise<unknown>): Promise<boolean> {
  return asked.then(
    () => true,
    () => false,
  );
}
