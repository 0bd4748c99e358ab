/** One supervisor, or one purge, of an installation at a time. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Installation } from './installation.ts';

export const OTHER_AT_WORK = 'another "torpor up" or "torpor down" of this installation is at work';

export interface UpLock {
  close(): Promise<void>;
}

/**
 * Undefined when another process holds it. The kernel takes it back when we end, however that is. Node has no flock: a `flock` program takes it on the
 * open file that we share with it, and the lock is the file's, not the program's. Our other children are not given the file.
 */
export async function takeUpLock({ runDir }: Pick<Installation, 'runDir'>): Promise<UpLock | undefined> {
  await mkdir(runDir, { recursive: true });
  const path = join(runDir, 'up.lock');
  for (;;) {
    const file = await open(path, 'a', 0o600);
    const flock = spawn('flock', ['--nonblock', '3'], { stdio: ['ignore', 'ignore', 'ignore', file.fd] });
    const [code] = await once(flock, 'exit'); // rejects when there is no flock; it is in the package util-linux
    if (code === 0 && (await isStillAt(path, file))) return { close: () => file.close() };
    await file.close();
    if (code === 1) return undefined;
    if (code !== 0) throw new Error(`flock on ${path} ended with ${code}`);
    await mkdir(runDir, { recursive: true }); // a purge removed it meanwhile, with what we have locked
  }
}

async function isStillAt(path: string, file: { stat(): Promise<{ ino: number }> }): Promise<boolean> {
  const there = await stat(path).catch(() => undefined); // removed
  return there?.ino === (await file.stat()).ino;
}
