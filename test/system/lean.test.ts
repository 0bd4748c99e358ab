/**
 * Sleep in swap (DESIGN §4.3) on the true host: a lean sandbox's memory is not in RAM, and a request brings back all of it, whoever dies meanwhile. The
 * memory is random, so nothing but itself can stand for it. What is measured is what the kernel says of the sandbox's cgroup.
 */
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { isFrozen, memoryBytes, swapBytes } from '../bench/lib/host.ts';
import { createOne, type Made } from '../bench/lib/sandboxes.ts';
import { client, timed, torpor, type Stack } from '../bench/lib/stack.ts';
import { expectWhole, startKeeper, tell, tellPatiently, type Kept } from './keeper.ts';
import { reportOf, store } from './node-calls.ts';
import { ownInstallation, type OwnInstallation } from './own-installation.ts';
import { freshName, isFull } from './test-stack.ts';
import { until } from './until.ts';

const MIB = 2 ** 20;
const MEMORY_MIB = 100;
const ROUNDS = isFull ? 10 : 3;
const PATIENCE_MS = 60_000;

let installation: OwnInstallation;
let stack: Stack;
const made: string[] = [];

beforeAll(async () => {
  installation = await ownInstallation('lean', ['--pool', '1', '--disk', '4', '--swap-mib', '2048']);
  stack = await installation.up();
});

afterAll(() => installation?.purge());

afterEach(async () => {
  for (const name of made.splice(0)) await api(stack).delete(name);
});

async function keeper(label: string): Promise<{ sandbox: Made; before: Kept }> {
  const sandbox = await createOne(stack, freshName(label), { idle: { kind: 'never' }, memoryMib: 512 });
  made.push(sandbox.name);
  return { sandbox, before: await startKeeper(stack, sandbox, MEMORY_MIB) };
}

/** Pages it out, and answers how much of it is where. */
async function lean({ name, hostId }: Made): Promise<{ ram: number; swap: number }> {
  expect(await api(stack).lean(name)).toMatchObject({ state: 'lean' });
  expect(await isFrozen(stack.scope, hostId)).toBe(true);
  return { ram: await memoryBytes(stack.scope, hostId), swap: await swapBytes(stack.scope, hostId) };
}

it(`leaves the RAM but for a small rest, and comes back with all that it had, ${ROUNDS} times`, async () => {
  const { sandbox, before } = await keeper('lean');
  const via = client(stack.url, 1);
  let last = before;
  for (let round = 1; round <= ROUNDS; round++) {
    const running = await memoryBytes(stack.scope, sandbox.hostId);
    const { ram, swap } = await lean(sandbox);
    expect(ram / MIB, `of ${running / MIB} MiB`).toBeLessThanOrEqual((0.15 * running) / MIB + 14);
    expect(swap / MIB).toBeGreaterThan(MEMORY_MIB * 0.95);
    const told = await reportOf(stack, sandbox.name);
    expect(told).toMatchObject({ state: 'lean', tier: 'lean' });
    expect(told.memoryMib).toBeLessThanOrEqual(ram / MIB + 1);
    expect(told.swapMib).toBeGreaterThan(MEMORY_MIB * 0.95);
    const answer = await timed(via, `${sandbox.url}/port/3000/`, { headers: { ...stack.headers } });
    expect(answer.headers['server-timing']).toMatch(/^wake;desc="lean";dur=\d/);
    expect(answer.headers['x-torpor-state']).toBe('lean');
    const after = await tell(stack, sandbox);
    expectWhole(last, after);
    last = after;
  }
  expect((await reportOf(stack, sandbox.name)).wakes?.lean?.measured).toBe(ROUNDS);
});

it('goes on to the disk, and comes back from there', async () => {
  const { sandbox, before } = await keeper('lean-stored');
  await lean(sandbox);
  const state = await store(stack, sandbox.name);
  expect(state, (await reportOf(stack, sandbox.name)).reason).toBe('stored');
  expect(await reportOf(stack, sandbox.name)).toMatchObject({ tier: 'stored', swapMib: 0 });
  expectWhole(before, await tell(stack, sandbox));
});

it('is woken by whoever comes while it is paged out', async () => {
  const { sandbox, before } = await keeper('cut');
  await api(stack).pause(sandbox.name);
  const leaning = api(stack).lean(sandbox.name);
  await until('some of it is in swap', PATIENCE_MS, async () => (await swapBytes(stack.scope, sandbox.hostId)) > 0);
  expectWhole(before, await tell(stack, sandbox));
  expect((await leaning).state).toMatch(/^(waking|running|lean)$/); // this machine may be slower to ask than to page out
});

it('is found again by the next node-agent, and by the next hostd, which puts its limit back', async () => {
  const { sandbox, before } = await keeper('killed');
  await lean(sandbox);
  await killed('node-agent');
  await until('it is known as lean', PATIENCE_MS, async () => {
    const told = await reportOf(stack, sandbox.name).catch(() => undefined); // no node-agent serves yet
    return told?.state === 'lean';
  });
  const after = await tellPatiently(stack, sandbox);
  expectWhole(before, after);
  const limit = await memoryLimit(sandbox);
  await writeFile(join(installation.failpointsDir, 'sandbox.lean.squeezed:after'), '');
  await lean(sandbox);
  expect(existsSync(join(installation.failpointsDir, 'sandbox.lean.squeezed:after')), 'hostd has died').toBe(false);
  expect(await memoryLimit(sandbox)).toBe(limit);
  expectWhole(after, await tellPatiently(stack, sandbox));
});

it('says of the node what it swaps to, and leaves nothing of it when the last installation goes', async () => {
  const told = JSON.parse(await torpor(['node', 'get', 'local', '--json'], installation.env)) as {
    capacity: { swap: { areas: { kind: string; atRest: string }[]; pagesOut: boolean } };
  }; // as `torpor node get` documents it
  expect(told.capacity.swap.pagesOut).toBe(true);
  expect(told.capacity.swap.areas.length).toBeGreaterThan(0);
  const holder = `/run/torpor/swap/holder.${stack.scope}`;
  const isOurs = told.capacity.swap.areas.some(({ kind }) => kind !== 'host');
  expect(existsSync(holder)).toBe(isOurs);
  await installation.purge();
  expect(existsSync(holder)).toBe(false);
  const others = existsSync('/run/torpor/swap');
  if (isOurs && !others) expect((await readFile('/proc/swaps', 'utf8')).trim().split('\n')).toHaveLength(1);
});

async function memoryLimit({ hostId }: Made): Promise<string> {
  for (const [controller, file] of [
    ['memory', 'memory.limit_in_bytes'],
    ['.', 'memory.swap.max'],
  ] as const) {
    const path = join('/sys/fs/cgroup', controller, `torpor-${stack.scope}`, hostId, file);
    if (existsSync(path)) return readFile(path, 'utf8');
  }
  throw new Error(`${hostId} has no memory limit`);
}

async function killed(name: string): Promise<void> {
  const { services } = await installation.status();
  const pid = services.find((service) => service.name === name)?.pid;
  if (pid === undefined) throw new Error(`${name} does not run`);
  process.kill(pid, 'SIGKILL');
}
