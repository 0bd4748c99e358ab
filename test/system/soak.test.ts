/** Nothing is lost, whatever happens to sandboxes and to what carries them: see `soak/soak.ts`. TORPOR_SOAK_SEED and TORPOR_SOAK_CYCLES have it again. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Stack } from '../bench/lib/stack.ts';
import { namesIn, readJournal } from './host-sets.ts';
import { ownInstallation, type OwnInstallation } from './own-installation.ts';
import { settled } from './settled.ts';
import { soak } from './soak/soak.ts';
import { isSoak } from './test-stack.ts';
import { until } from './until.ts';

const POOL = 2;
const CYCLES = Number(process.env.TORPOR_SOAK_CYCLES ?? (isSoak ? 2_000 : 12));
const SEED = process.env.TORPOR_SOAK_SEED ?? (isSoak ? randomBytes(4).toString('hex') : 'a1');
const PATIENCE_MS = 60_000;
/** Of one cycle with its troubles, on a machine that does other things as well. */
const CYCLE_MS = 8_000;

let installation: OwnInstallation;
let stack: Stack;
/** It went to its end, and so has deleted all that it made. */
let isDone = false;

beforeAll(async () => {
  installation = await ownInstallation('soak', ['--pool', String(POOL), '--disk', '4']);
  stack = await installation.up();
});

afterAll(() => installation?.purge());

it(`loses nothing in ${CYCLES} cycles`, { timeout: 120_000 + CYCLES * CYCLE_MS }, async () => {
  process.stdout.write(`${await soak({ stack, installation, seed: SEED, cycles: CYCLES })}\n`);
  isDone = true;
});

it('leaves nothing of what was deleted', async ({ skip }) => {
  skip(!isDone, 'what the soak has of sandboxes where it broke off is left to be looked at');
  await settled(stack, POOL);
  expect((await readJournal(stack)).flatMap(({ name }) => name ?? [])).toEqual([]);
  // Images, snapshots of disks and volumes, parcels, volumes.
  const kept = () => Promise.all(['m', 's', 'x', 'v'].map((kind) => namesIn(join(stack.stateDir, 'pool', kind))));
  let left: string[] = [];
  await until(
    'nothing that was kept is left',
    PATIENCE_MS,
    async () => (left = (await kept()).flat()).length === 0,
    () => left.join(', '),
  );
  expect(left).toEqual([]);
});
