/**
 * The disk under the images fails: everything that a store writes is refused at every step, with EIO and for want of space, and so is what a wake reads. The
 * sandbox sleeps on in RAM, or on the disk, with all that it had, and is stored or woken when the disk has healed. The images' directory is a file system
 * of our own meanwhile, which fails when told to.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { isFrozen } from '../bench/lib/host.ts';
import { createOne, type Made } from '../bench/lib/sandboxes.ts';
import type { Stack } from '../bench/lib/stack.ts';
import { buildFaultFs, type Built, type FaultFs } from './faultfs.ts';
import { namesIn } from './host-sets.ts';
import { ask } from './inside.ts';
import { expectWhole, startKeeper, tell, type Kept } from './keeper.ts';
import { reportOf, store } from './node-calls.ts';
import { ownInstallation, type OwnInstallation } from './own-installation.ts';
import { freshName, isFull } from './test-stack.ts';

const exec = promisify(execFile);
const { EIO, ENOSPC } = constants.errno;
const MEMORY_MIB = 32;
/** Operations of a store in their order, and the how-manieth of them fails. */
const STEPS = [
  ['mkdir', 1],
  ['create', 1],
  ['create', 2],
  ['create', 3],
  ['write', 1],
  ['write', 2],
  ['write', 20],
  ['fsync', 1],
  ['fsync', 3],
  ['create', 4],
  ['fsync', 4],
  ['rename', 1],
] as const;
const QUICK = new Set(['write 20', 'rename 1']);
const CASES = STEPS.flatMap(([operation, nth]) =>
  [EIO, ENOSPC]
    .filter((errno) => isFull || (errno === EIO && QUICK.has(`${operation} ${nth}`)))
    .map((errno) => [errno === EIO ? 'EIO' : 'ENOSPC', operation, nth, errno] as const),
);

let built: Built;
let installation: OwnInstallation;
let stack: Stack;
let aside: string;
let images: string;
let faulty: FaultFs;
let sandbox: Made;
let kept: Kept;

beforeAll(async () => {
  built = await buildFaultFs();
  installation = await ownInstallation('image faults', ['--pool', '0', '--disk', '4']);
  stack = await installation.up();
  sandbox = await createOne(stack, freshName('faulty'), { idle: { kind: 'never' }, memoryMib: 512 });
  kept = await startKeeper(stack, sandbox, MEMORY_MIB);
  await store(stack, sandbox.name); // so that there is an image to keep
  images = join(stack.stateDir, 'pool/m');
  aside = await mkdtemp(join(tmpdir(), 'torpor-images-'));
  await exec('mount', ['--bind', images, aside]);
  faulty = await built.mount('directory', aside, images);
});

afterAll(async () => {
  await installation?.down();
  await faulty?.close();
  await exec('umount', [aside]);
  await rm(aside, { recursive: true });
  await installation?.purge();
  await built?.remove();
});

it('is whole without any fault', () => goesOn());

it.for(CASES)('%s at %s %i of a store keeps all that there was', async ([, operation, nth, errno]) => {
  const before = await namesIn(aside);
  await faulty.order(`fail ${operation} ${errno} ${nth}`);
  try {
    expect(await store(stack, sandbox.name)).toBe('paused');
    const said = await reportOf(stack, sandbox.name);
    expect(said).toMatchObject({
      state: 'paused',
      tier: 'paused',
      reason: expect.stringMatching(/input\/output|space/),
    });
    expect(await isFrozen(stack.scope, sandbox.hostId)).toBe(true);
  } finally {
    await faulty.order('heal');
  }
  const lost = before.filter((name) => !name.endsWith('.partial'));
  expect(await namesIn(aside), 'what was an image is one').toEqual(expect.arrayContaining(lost));
  await isTold();
  await goesOn();
});

it('a wake that cannot read its image fails, gives nothing up, and brings everything back when the disk has healed', async () => {
  await goesOn({ asleep: true });
  await faulty.order(`fail read ${EIO} 1`);
  try {
    expect((await ask(stack, sandbox, 'true')).status).toBeGreaterThanOrEqual(500);
    expect(await reportOf(stack, sandbox.name)).toMatchObject({
      state: 'stored',
      tier: 'stored',
      reason: expect.stringMatching(/input\/output/),
    });
  } finally {
    await faulty.order('heal');
  }
  await isTold();
});

/** Stored and woken, as if there had been nothing. */
async function goesOn({ asleep = false } = {}): Promise<void> {
  expect(await store(stack, sandbox.name)).toBe('stored');
  if (!asleep) await isTold();
}

async function isTold(): Promise<void> {
  const now = await tell(stack, sandbox);
  expectWhole(kept, now);
  expect((await reportOf(stack, sandbox.name)).reason).toBeUndefined();
  kept = now;
}
