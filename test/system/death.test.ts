/**
 * Each step of the journal and each verb of hostd has a failpoint. Whoever comes by one dies of SIGKILL there; the supervisor starts it again; and then
 * the host must show what the journal says and nothing else, with every answered create alive and every unanswered one whole or wholly absent.
 */
import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import type { Stack } from '../bench/lib/stack.ts';
import { Counter, exec } from './counter.ts';
import { readJournal } from './host-sets.ts';
import { ownInstallation, type OwnInstallation } from './own-installation.ts';
import { journaledIds, recovered, settled } from './settled.ts';
import { freshName, isFull } from './test-stack.ts';
import { until } from './until.ts';

const POOL = 1;
/** By when the host and the journal agree again after a restart, on a machine that has nothing else to do. */
const RECOVERY_MS = 10_000;
/** How long anything else may take on a busy machine. */
const PATIENCE_MS = 60_000;
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
/** How long a start takes that has nothing to make good: what a busy machine adds to every one. */
let plainStartMs = 0;

beforeAll(async () => {
  installation = await ownInstallation('death', ['--pool', String(POOL), '--disk', '4']);
  stack = await installation.up();
  witnesses = [await Counter.start(stack, freshName('awake')), await Counter.start(stack, freshName('asleep'))];
  await settled(stack, POOL);
  plainStartMs = await plainStart();
});

afterAll(async () => {
  const worst = recoveries.toSorted((a, b) => b.ms - a.ms).slice(0, 3);
  const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
  const told = worst.map(({ point, ms }) => `${point} ${seconds(ms)}`).join(', ');
  if (worst.length > 0)
    process.stdout.write(
      `recovered from ${recoveries.length} deaths; the slowest after their restart: ${told}; a plain start ${seconds(plainStartMs)}\n`,
    );
  await installation?.purge();
});

describe('a create on its cold way', () => {
  it.for(points.cold)('dies at %s', (point) => dies(point, (isArmed) => createAndJudge(COLD, isArmed)));
});

describe('a create out of the pool', () => {
  it.for(points.claim)('dies at %s', (point) => dies(point, (isArmed) => createAndJudge({}, isArmed)));
});

describe('the refilling of the pool', () => {
  it.for(points.refill)('dies at %s', (point) => dies(point, (isArmed) => createAndJudge({}, isArmed)));
});

describe('a delete', () => {
  it.for(points.destroy)('dies at %s', async (point) => {
    const name = freshName('gone');
    await api(stack).create({ name, ...COLD });
    await settled(stack, POOL);
    await dies(point, async (isArmed) => {
      const answered = await untilAnswered(isArmed, () => api(stack).delete(name));
      return async () => {
        // Unanswered, it may live on whole; answered, it may not.
        if (!answered && (await isUsable(name))) await api(stack).delete(name);
        await until(`${name} is wholly absent`, PATIENCE_MS, () => isAbsent(name));
      };
    });
  });
});

/** Arms the point, acts, and judges once the host shows again what the journal says. */
async function dies(point: string, act: (isArmed: () => boolean) => Promise<() => Promise<void>>): Promise<void> {
  await Promise.all(witnesses.slice(1).map(({ made }) => api(stack).pause(made.name)));
  const armed = join(installation.failpointsDir, point);
  const before = await restarts();
  await writeFile(armed, '', { mode: 0o666 });
  const isArmed = () => existsSync(armed);
  const acting = act(isArmed);
  try {
    await until(`somebody comes by ${point}`, PATIENCE_MS, async () => !isArmed());
  } finally {
    await rm(armed, { force: true });
  }
  const old = await journaledIds(stack);
  await until('it is started again', PATIENCE_MS, async () => (await restarts()) > before);
  recoveries.push({ point, ms: await recovered(stack, old, RECOVERY_MS + 2 * plainStartMs) });
  const judge = await acting;
  await judge();
  await Promise.all(witnesses.map((witness) => witness.ask(`/${encodeURIComponent(point)}`, PATIENCE_MS)));
  await settled(stack, POOL);
}

async function restarts(): Promise<number> {
  return (await installation.status()).services.reduce((sum, each) => sum + each.restarts, 0);
}

/** From the start of a node-agent that died with nothing in its hands until it is healthy. */
async function plainStart(): Promise<number> {
  const nodeAgent = async () => (await installation.status()).services.find(({ name }) => name === 'node-agent');
  const before = await nodeAgent();
  process.kill(before?.pid ?? Number.NaN, 'SIGKILL');
  await until(
    'it is started again',
    PATIENCE_MS,
    async () => ((await nodeAgent())?.restarts ?? 0) > (before?.restarts ?? 0),
  );
  return until('it is healthy', PATIENCE_MS, async () => (await nodeAgent())?.healthy === true);
}

/** An answered create must be usable, an unanswered one usable or absent. */
async function createAndJudge(more: Record<string, unknown>, isArmed: () => boolean): Promise<() => Promise<void>> {
  const unanswered: string[] = [];
  let name = '';
  const answered = await untilAnswered(isArmed, async () => {
    if (name !== '') unanswered.push(name);
    name = freshName('made');
    await api(stack).create({ name, idle: { kind: 'never' }, ...more });
  });
  if (!answered) unanswered.push(name);
  return async () => {
    if (answered) await until(`${name}, whose create was answered, is usable`, PATIENCE_MS, () => isUsable(name));
    for (const each of unanswered)
      await until(
        `${each}, whose create was not answered, is whole or wholly absent`,
        PATIENCE_MS,
        async () => (await isUsable(each)) || isAbsent(each),
      );
    for (const each of new Set([name, ...unanswered])) if (!(await isAbsent(each))) await api(stack).delete(each);
  };
}

/** Asks again as long as the point is armed: what is refused while somebody is still on the way back from the death before is not what is meant. */
async function untilAnswered(isArmed: () => boolean, ask: () => Promise<unknown>): Promise<boolean> {
  for (;;) {
    if (await succeeds(ask())) return true;
    if (!isArmed()) return false;
    await after(200);
  }
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
