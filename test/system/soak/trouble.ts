/** What befalls a soaked installation: each of its processes dies, its disk is full or stands still. One trouble at a time, and always ended. */
import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { setTimeout as wait } from 'node:timers/promises';
import type { Stack } from '../../bench/lib/stack.ts';
import { askHostd } from '../host-sets.ts';
import type { OwnInstallation } from '../own-installation.ts';
import { scribes } from '../scribes.ts';
import { until } from '../until.ts';
import type { Chance } from './chance.ts';

const exec = promisify(execFile);
const PATIENCE_MS = 120_000;
/** How long a disk is full, or stands still, at most. */
const FULL_MS = 3_000;
const STILL_MS = 1_500;
/** Of what is free above the reserve when the disk is full: less than any image needs. */
const LEFT_MIB = 4;
/** As often as this the next trouble comes while the last is still being got over. */
const HASTE = 0.3;

const TROUBLES = {
  hostd: 4,
  'node-agent': 4,
  'sandbox-scheduler': 1,
  gateway: 1,
  nats: 1,
  postgres: 1,
  scribes: 3,
  supervisor: 0.5,
  'full disk': 3,
  'slow disk': 3,
} as const;
export type Trouble = keyof typeof TROUBLES;

/** Answers what it was, when all work again or the next may come. */
export async function trouble(stack: Stack, installation: OwnInstallation, chance: Chance): Promise<Trouble> {
  const what = chance.weighed(TROUBLES);
  const share = chance.next();
  const hasHaste = chance.next() < HASTE;
  switch (what) {
    case 'full disk':
      await fullDisk(stack, FULL_MS * share);
      return what;
    case 'slow disk':
      await slowDisk(stack, STILL_MS * share);
      return what;
    case 'scribes':
      for (const pid of await scribes(stack)) kill(pid);
      return what;
    case 'supervisor':
      kill((await installation.status()).pid);
      await installation.up();
      return what;
    default:
      for (const { name, pid } of (await installation.status()).services)
        if (name === what && pid !== undefined) kill(pid);
      if (!hasHaste) await healthy(installation);
      return what;
  }
}

export function healthy(installation: OwnInstallation): Promise<number> {
  return until('all are healthy', PATIENCE_MS, async () =>
    (await installation.status()).services.every((each) => each.healthy && each.pid !== undefined),
  );
}

async function fullDisk(stack: Stack, forMs: number): Promise<void> {
  const filler = join(stack.stateDir, 'pool/filler');
  const usage = await askHostd<{ pool: { freeMib: number; reserveMib: number } }>(stack.scope, 'node.usage').catch(
    () => undefined,
  );
  if (!usage) return; // hostd is on its way back
  const { freeMib, reserveMib } = usage.pool;
  if (freeMib - reserveMib <= LEFT_MIB) return;
  try {
    await fill(filler, freeMib - reserveMib - LEFT_MIB);
    await wait(forMs);
  } finally {
    await rm(filler, { force: true });
  }
}

/** With so much, or less: others use the pool too, and what was free a moment ago may not be. */
async function fill(filler: string, mib: number): Promise<void> {
  for (let less = 0; less < mib; less = 2 * less + LEFT_MIB) {
    try {
      await exec('fallocate', ['--length', `${mib - less}M`, filler]);
      return;
    } catch (error) {
      if (!String(error).includes('No space left')) throw error;
    }
  }
}

/** Nothing is written to the pool, and whoever wants to waits. */
async function slowDisk(stack: Stack, forMs: number): Promise<void> {
  const pool = join(stack.stateDir, 'pool');
  await exec('fsfreeze', ['--freeze', pool]);
  try {
    await wait(forMs);
  } finally {
    await exec('fsfreeze', ['--unfreeze', pool]);
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error; // it has ended by itself
  }
}
