/** Torpor is replaced by a newer one: what sleeps on the disk, and what sleeps in RAM, was made of a guest and of layers that no new sandbox is made of. */
import { execFile } from 'node:child_process';
import { appendFile, cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { createOne, type Made } from '../bench/lib/sandboxes.ts';
import { checkout, torpor, type Stack } from '../bench/lib/stack.ts';
import { sh } from './inside.ts';
import { expectWhole, startKeeper, tell, type Kept } from './keeper.ts';
import { reportOf, store } from './node-calls.ts';
import { ownInstallation, type OwnInstallation } from './own-installation.ts';
import { freshName } from './test-stack.ts';

const SETUP_MS = 600_000;
const TEST_MS = 240_000;
const MIB = 8;

let own: OwnInstallation;
let newer: string;
let stack: Stack;

beforeAll(async () => {
  own = await ownInstallation('upgrade', ['--pool', '1', '--disk', '4']);
  stack = await own.up();
  newer = await mkdtemp(join(tmpdir(), 'torpor-newer-'));
}, SETUP_MS);

afterAll(async () => {
  await own.purge();
  await rm(newer, { recursive: true, force: true });
}, SETUP_MS);

/** A checkout whose guest is another program, and a host whose own layer is another: its key counts where packages are verified, told or not. */
async function upgrade(): Promise<void> {
  await cp(checkout, newer, {
    recursive: true,
    verbatimSymlinks: true,
    filter: (path) => !path.endsWith('/.git'),
  });
  await appendFile(join(newer, 'packages/guest/cmd/guest/main.go'), '\nvar _ = "newer"\n');
  await own.down();
  const env = { ...own.env, GOSUMDB: 'sum.golang.org' };
  await promisify(execFile)(join(newer, 'torpor'), ['up', '--detach', '--pool', '1'], { env, maxBuffer: 64 << 20 });
}

async function layers(): Promise<string[]> {
  const text = await readFile(join(stack.stateDir, 'config/node-agent.json'), 'utf8');
  const { driver } = JSON.parse(text) as { driver: { templates: { lower: string[] }[] } }; // written by `up`
  return driver.templates.flatMap(({ lower }) => lower);
}

async function keeps(label: string): Promise<{ sandbox: Made; before: Kept }> {
  const sandbox = await createOne(stack, freshName(label), { idle: { kind: 'never' }, memoryMib: 512 });
  return { sandbox, before: await startKeeper(stack, sandbox, MIB) };
}

async function lost(sandbox: Made): Promise<unknown> {
  const { reason, lost } = await reportOf(stack, sandbox.name);
  return { reason, lost };
}

it(
  'wakes what was stored, and what slept in RAM, whole; and stores and wakes both again',
  { timeout: TEST_MS },
  async () => {
    const stored = await keeps('stored');
    const paused = await keeps('paused');
    expect(await store(stack, stored.sandbox.name)).toBe('stored');
    await api(stack).pause(paused.sandbox.name);
    const layersBefore = await layers();
    await upgrade();
    const layersNow = await layers();
    expect(layersNow.map((layer, at) => layer === layersBefore[at])).toEqual([false, false, true]);

    for (const { sandbox, before } of [stored, paused]) {
      expectWhole(before, await tell(stack, sandbox));
      const again = await tell(stack, sandbox);
      expect(await store(stack, sandbox.name)).toBe('stored');
      expectWhole(again, await tell(stack, sandbox));
      expect(await lost(sandbox)).toEqual({ reason: undefined, lost: undefined });
      const [receipt] = JSON.parse(await torpor(['receipt', 'list', sandbox.name, '--json'], own.env)) as {
        signed: string;
      }[];
      expect(JSON.parse(receipt?.signed ?? '{}')).toMatchObject({ verdict: 'whole', refused: [] });
    }
    const fresh = await createOne(stack, freshName('fresh'));
    expect((await sh(stack, fresh, 'echo here')).stdout).toBe('here\n');
  },
);
