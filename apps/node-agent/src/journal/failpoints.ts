import { unlinkSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Places where a test may kill this process. `TORPOR_FAILPOINTS=journal:create:after-fsync=kill,journal:destroy:step:net.delete:before=kill:2`
 * kills it by SIGKILL when it comes by (the second time, for `:2`). An absolute path is a directory instead: a file in it that is named as a point
 * kills whoever comes by next and is removed first, so that the successor lives; a test arms points there without restarting anybody.
 * In-process tests pass a `die` of their own, which never resolves.
 */
export interface Failpoints {
  hit(name: string): Promise<void> | undefined;
}

export const noFailpoints: Failpoints = { hit: () => undefined };

export function failpointsFrom(
  text: string | undefined,
  die: () => Promise<void> = () => {
    process.kill(process.pid, 'SIGKILL');
    return new Promise(() => {});
  },
): Failpoints {
  if (!text) return noFailpoints;
  if (text.startsWith('/')) return { hit: (name) => (disarm(join(text, name)) ? die() : undefined) };
  const left = new Map(text.split(',').map(readPoint));
  return {
    hit(name) {
      const times = left.get(name);
      if (times === undefined) return undefined;
      left.set(name, times - 1);
      return times === 1 ? die() : undefined;
    },
  };
}

/** Whether it was armed. Removing is the question itself, so that of several who come by only one dies. */
function disarm(file: string): boolean {
  try {
    unlinkSync(file);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
    throw error;
  }
}

function readPoint(text: string): [string, number] {
  const match = /^(.+)=kill(?::(\d+))?$/.exec(text.trim());
  if (!match?.[1]) throw new Error(`TORPOR_FAILPOINTS: expected "<point>=kill" or "<point>=kill:<n>", got "${text}"`);
  return [match[1], Number(match[2] ?? 1)];
}
