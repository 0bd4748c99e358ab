/** What befalls a soaked installation: each of its processes dies, its disk or its swap is full, its disk stands still. One trouble at a time, and always ended. */
import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { setTimeout as wait } from 'node:timers/promises';
import { api } from '../../bench/lib/api.ts';
import type { Stack } from '../../bench/lib/stack.ts';
import { askHostd } from '../host-sets.ts';
import type { OwnInstallation } from '../own-installation.ts';
import { scribes } from '../scribes.ts';
import { until } from '../until.ts';
import type { Chance } from './chance.ts';
import type { FullSwap } from './full-swap.ts';

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
  'full swap': 2,
} as const;
type Trouble = keyof typeof TROUBLES;
export const ALL_TROUBLES = Object.keys(TROUBLES) as readonly Trouble[]; // a record's own keys

export interface Troubled {
  readonly stack: Stack;
  readonly installation: OwnInstallation;
  /** Undefined where the swap is not ours to fill. */
  readonly swap: FullSwap | undefined;
  /** The sandboxes that there are. */
  names(): readonly string[];
}

/** Answers what it was, when all work again or the next may come, and whether it befell anybody. */
export async function trouble(troubled: Troubled, chance: Chance): Promise<{ what: Trouble; befell: boolean }> {
  const what = chance.weighed(TROUBLES);
  const share = chance.next();
  const hasHaste = chance.next() < HASTE;
  return { what, befell: await befalls(troubled, what, { share, hasHaste }) };
}

async function befalls(
  { stack, installation, swap, names }: Troubled,
  what: Trouble,
  { share, hasHaste }: { share: number; hasHaste: boolean },
): Promise<boolean> {
  switch (what) {
    case 'full disk':
      return await fullDisk(stack, FULL_MS * share);
    case 'slow disk':
      return await slowDisk(stack, STILL_MS * share);
    case 'full swap':
      return swap !== undefined && (await whileFull(swap, stack, names()));
    case 'scribes':
      return (await scribes(stack)).filter(kill).length > 0;
    case 'supervisor': {
      const isKilled = kill((await installation.status()).pid);
      await installation.up();
      return isKilled;
    }
    default: {
      const { services } = await installation.status();
      const victim = services.find(({ name }) => name === what);
      if (!victim) throw new Error(`there is no ${what} among ${services.map(({ name }) => name).join(', ')}`);
      const isKilled = victim.pid !== undefined && kill(victim.pid); // it may be on its way back from the kill before
      if (!hasHaste) await healthy(installation);
      return isKilled;
    }
  }
}

export function healthy(installation: OwnInstallation): Promise<number> {
  return until('all are healthy', PATIENCE_MS, async () =>
    (await installation.status()).services.every((each) => each.healthy && each.pid !== undefined),
  );
}

async function fullDisk(stack: Stack, forMs: number): Promise<boolean> {
  const filler = join(stack.stateDir, 'pool/filler');
  const usage = await askHostd<{ pool: { freeMib: number; reserveMib: number } }>(stack.scope, 'node.usage').catch(
    () => undefined,
  );
  if (!usage) return false; // hostd is on its way back
  const { freeMib, reserveMib } = usage.pool;
  if (freeMib - reserveMib <= LEFT_MIB) return false;
  try {
    await fill(filler, freeMib - reserveMib - LEFT_MIB);
    await wait(forMs);
    return true;
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
async function slowDisk(stack: Stack, forMs: number): Promise<boolean> {
  const pool = join(stack.stateDir, 'pool');
  await exec('fsfreeze', ['--freeze', pool]);
  try {
    await wait(forMs);
    return true;
  } finally {
    await exec('fsfreeze', ['--unfreeze', pool]);
  }
}

/** All are to be paged out, and what they have finds no room, or not all of it. */
async function whileFull(swap: FullSwap, stack: Stack, names: readonly string[]): Promise<boolean> {
  const full = await swap.fill();
  if (!full) return false;
  try {
    await Promise.all(
      names.map((name) =>
        api(stack)
          .lean(name)
          .catch(() => {}),
      ),
    ); // in the middle of something else, or gone
    return true;
  } finally {
    await full.free();
  }
}

/** Whether there was anybody. */
function kill(pid: number): boolean {
  try {
    process.kill(pid, 'SIGKILL');
    return true;
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error; // it has ended by itself
    return false;
  }
}
