/** hostd's scribes stand between a sentry and the files of an image: while they are stopped, a save or a restore stands still in its middle. */
import { readFile } from 'node:fs/promises';
import type { Stack } from '../bench/lib/stack.ts';
import { isFrozen } from '../bench/lib/host.ts';
import { naming } from './processes.ts';
import { until } from './until.ts';

/** One for a store, one for a wake. */
const READY = 2;
const PATIENCE_MS = 30_000;

/** Those that wait for work or do it. */
export async function scribes({ scope }: Pick<Stack, 'scope'>): Promise<number[]> {
  const found = await naming(`/run/torpor/${scope}/`);
  return found.filter(({ argv }) => argv[1] === 'scribe').map(({ pid }) => pid);
}

/** Whatever begins to be stored or restored while `act` goes on stands still until that has ended. */
export async function standingStill<T>(stack: Stack, act: () => Promise<T>): Promise<T> {
  let stopped: number[] = [];
  await until('scribes are ready', PATIENCE_MS, async () => (stopped = await scribes(stack)).length >= READY);
  for (const pid of stopped) signal(pid, 'SIGSTOP');
  try {
    return await act();
  } finally {
    for (const pid of stopped) signal(pid, 'SIGCONT');
  }
}

/** Resolves in the middle of a save: the sandbox has been thawed for it. */
export function isBeingSaved({ scope }: Stack, hostId: string): Promise<number> {
  return until('its save has begun', PATIENCE_MS, async () => !(await isFrozen(scope, hostId)));
}

/** Resolves in the middle of a restore: a scribe fills its memory. */
export function isBeingRestored(stack: Stack, hostId: string): Promise<number> {
  return until('its restore has begun', PATIENCE_MS, async () => {
    const groups = await Promise.all(
      (await scribes(stack)).map((pid) => readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '')), // ended meanwhile
    );
    return groups.some((text) => text.includes(hostId));
  });
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error; // it has ended meanwhile
  }
}
