/**
 * Two nodes on this machine, each with its hostd, its pool of disks and its addresses: a sandbox moves from one to the other with its memory, processes,
 * files and snapshots, while somebody uses it, and whatever dies meanwhile it lives in one place alone, whole.
 */
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import { request } from 'undici';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { createOne, type Made } from '../bench/lib/sandboxes.ts';
import { patient, torpor, type Stack } from '../bench/lib/stack.ts';
import { sh } from './inside.ts';
import { expectWhole, startKeeper, tell, tellPatiently, type Kept } from './keeper.ts';
import { ownInstallation, type OwnInstallation } from './own-installation.ts';
import { freshName } from './test-stack.ts';
import { until } from './until.ts';

const [FIRST, SECOND] = ['local', 'local-2'] as const;
const MEMORY_MIB = 24;
const PATIENCE_MS = 120_000;

let installation: OwnInstallation;
let stack: Stack;
const made: string[] = [];

beforeAll(async () => {
  installation = await ownInstallation('move', ['--nodes', '2', '--pool', '0', '--disk', '3']);
  stack = await installation.up();
  await until('both nodes are heard', 30_000, async () => (await api(stack).nodes()).length === 2);
});

afterAll(() => installation?.purge());

afterEach(async () => {
  for (const name of made.splice(0)) await api(stack).delete(name);
  for (const node of [FIRST, SECOND]) {
    await cli('node', 'undrain', node);
    await until(
      `nothing of a sandbox is left on ${node}`,
      60_000,
      async () => (await leftOn(node)).length === 0,
      () => leftOn(node).then(String),
    );
  }
});

function cli(...args: string[]): Promise<string> {
  return torpor(args, installation.env);
}

/** On one node, whatever the scheduler would choose. */
async function keeperOn(node: string, label: string): Promise<{ sandbox: Made; before: Kept }> {
  const other = node === FIRST ? SECOND : FIRST;
  await cli('node', 'drain', other, '--no-wait');
  const sandbox = await createOne(stack, freshName(label), { idle: { kind: 'never' }, memoryMib: 512 });
  await cli('node', 'undrain', other);
  made.push(sandbox.name);
  expect(await homeOf(sandbox)).toBe(node);
  return { sandbox, before: await startKeeper(stack, sandbox, MEMORY_MIB) };
}

async function homeOf({ name }: Made): Promise<string> {
  return ((await api(stack).get(name)) as unknown as { nodeId: string }).nodeId; // of the documented view
}

/** Disks, images, snapshots, parcels and journals of sandboxes on a node; there is no pool. */
async function leftOn(node: string): Promise<string[]> {
  const suffix = node === FIRST ? '' : '-2';
  const names = (path: string) => readdir(join(stack.stateDir, path)).catch(() => []);
  const found = await Promise.all(
    [`pool${suffix}/i`, `pool${suffix}/m`, `pool${suffix}/s`, `pool${suffix}/x`, `node${suffix}/journal`].map(names),
  );
  return found.flat();
}

/** Asks again and again, as the gateway says: after a refusal that may pass, and after what it names. */
async function use(
  sandbox: Made,
  until: AbortSignal,
): Promise<{ answered: number; waited: number; refused: string[] }> {
  const count = { answered: 0, waited: 0, refused: [] as string[] };
  while (!until.aborted) {
    const { statusCode, headers, body } = await request(`${sandbox.url}/port/3000/`, {
      dispatcher: patient,
      headers: stack.headers,
    });
    const text = await body.text();
    if (statusCode === 200) count.answered++;
    else if (statusCode === 503 && headers['retry-after'] !== undefined) {
      count.waited++;
      await after(1_000 * Number(headers['retry-after']));
    } else count.refused.push(`${statusCode} ${text.slice(0, 300)}`);
    await after(50);
  }
  return count;
}

describe('a node that is drained', () => {
  it('gives all its sandboxes to the other, awake, asleep and stored, while they are used, and no request is lost', async () => {
    const [awake, asleep, stored] = [
      await keeperOn(FIRST, 'awake'),
      await keeperOn(FIRST, 'asleep'),
      await keeperOn(FIRST, 'stored'),
    ];
    await api(stack).pause(asleep.sandbox.name);
    await cli('sandbox', 'store', stored.sandbox.name);
    const enough = new AbortController();
    const using = use(awake.sandbox, enough.signal);
    await cli('node', 'drain', FIRST);
    expect(await api(stack).nodes()).toMatchObject([
      { id: FIRST, drainingSinceMs: expect.any(Number) },
      { id: SECOND },
    ]);
    await after(1_000);
    enough.abort();
    const count = await using;
    expect(count.refused).toEqual([]);
    expect(count.answered).toBeGreaterThan(5);
    for (const { sandbox, before } of [awake, asleep, stored]) {
      expect(await homeOf(sandbox)).toBe(SECOND);
      const now = await tell(stack, sandbox);
      expectWhole(before, now);
      if (sandbox === awake.sandbox) expect(now.added - before.added).toBe(count.answered + 1);
      expect((await sh(stack, sandbox, 'cat /run/torpor/generation')).stdout.trim()).toBe('2');
      expect((await sh(stack, sandbox, 'getent hosts localhost && python3 -c "print(40 + 2)"')).stdout).toContain('42');
    }
    await until('nothing is left on the drained node', 60_000, async () => (await leftOn(FIRST)).length === 0);
    const late = await api(stack).create({ name: freshName('late'), memoryMib: 512 });
    made.push(late.name);
    expect((late as unknown as { nodeId: string }).nodeId).toBe(SECOND);
  });
});

describe('a sandbox that moves', () => {
  it('takes its snapshots with it, there and back again', async () => {
    const { sandbox, before } = await keeperOn(FIRST, 'history');
    await sh(stack, sandbox, 'echo then > /root/word');
    await api(stack).snapshot(sandbox.name, 'then');
    await sh(stack, sandbox, 'echo now > /root/word');
    for (const to of [SECOND, FIRST]) {
      await cli('sandbox', 'move', sandbox.name, '--to', to);
      expect(await homeOf(sandbox)).toBe(to);
      expectWhole(before, await tell(stack, sandbox));
      expect((await sh(stack, sandbox, 'cat /root/word')).stdout).toBe('now\n');
    }
    await cli('sandbox', 'move', sandbox.name, '--to', SECOND);
    await api(stack).restore(sandbox.name, 'then');
    expect((await sh(stack, sandbox, 'cat /root/word')).stdout).toBe('then\n');
    expectWhole(before, await tell(stack, sandbox));
  });

  it('stays where it is when the other node is none, or the same', async () => {
    const { sandbox, before } = await keeperOn(FIRST, 'stays');
    await expect(cli('sandbox', 'move', sandbox.name, '--to', 'nowhere')).rejects.toThrow(/no node/);
    await expect(cli('sandbox', 'move', sandbox.name, '--to', FIRST)).rejects.toThrow(/lives on node "local"/);
    expectWhole(before, await tell(stack, sandbox));
  });
});

describe('whatever dies while it moves', () => {
  const always = ['journal:leave:after-fsync', 'journal:arrive:after-fsync', 'journal:arrive:done:after-fsync'];
  const daemons = ['parcel.pack:after', 'parcel.unpack:after'];
  // What follows these is what follows one of the others.
  const soaked = [
    'journal:leave:before-fsync',
    'journal:leave:step:parcel.pack:after',
    'journal:arrive:before-fsync',
    'journal:arrive:step:parcel.unpack:before',
    'journal:arrive:step:parcel.unpack:after',
    'journal:arrive:done:before-fsync',
    'parcel.unpack:before',
  ];
  const deaths = [...always, ...daemons, ...(process.env.TORPOR_TEST_TIER === 'soak' ? soaked : [])];
  it.each(deaths)('at %s, it lives in one place, whole', async (point) => {
    const { sandbox, before } = await keeperOn(FIRST, 'dies');
    const path = join(installation.failpointsDir, point);
    await writeFile(path, '');
    await cli('sandbox', 'move', sandbox.name, '--to', SECOND).catch(() => undefined); // either is an end
    await until(
      `${point} was reached`,
      PATIENCE_MS,
      async () => !(await readdir(installation.failpointsDir)).includes(point),
    );
    await rm(path, { force: true });
    expectWhole(before, await tellPatiently(stack, sandbox));
    const home = await homeOf(sandbox);
    const other = home === FIRST ? SECOND : FIRST;
    await until(
      `nothing is left on ${other}`,
      PATIENCE_MS,
      async () => (await leftOn(other)).length === 0,
      () => leftOn(other).then(String),
    );
    expectWhole(before, await tellPatiently(stack, sandbox));
  });
});
