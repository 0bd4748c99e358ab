/**
 * The cache that a user's checkouts share. Every product lies under a name that ends in the hash of all it was made of,
 * is written aside and renamed: if the name exists, the product is whole. Everything in it is readable by everybody,
 * because the rooms run as an unprivileged user; nothing in it is secret.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, chmod, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { createHash } from 'node:crypto';

export function cacheDirectory(env: NodeJS.ProcessEnv = process.env): string {
  return env.TORPOR_CACHE ?? '/var/cache/torpor';
}

export async function exists(path: string): Promise<boolean> {
  try {
    await access(path, constants.F_OK);
    return true;
  } catch {
    // Absent and unreachable are the same to us: either way we cannot use it.
    return false;
  }
}

/** 16 hex digits over the parts; different lists give different texts, so `['ab']` and `['a', 'b']` differ. */
export function contentKey(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
}

/** Makes `target` by `build`, which fills a directory beside it; left-overs of builds that died are removed. Call it under the product's lock. */
export async function publish(target: string, build: (aside: string) => Promise<void>): Promise<void> {
  const parent = dirname(target);
  await mkdir(parent, { recursive: true, mode: 0o755 });
  await removeLeftovers(target);
  const aside = `${target}.tmp-${process.pid}`;
  await mkdir(aside, { mode: 0o755 });
  await chmod(aside, 0o755); // whatever the umask was
  await build(aside);
  await rename(aside, target);
}

async function removeLeftovers(target: string): Promise<void> {
  for (const name of await readdir(dirname(target))) {
    if (!name.startsWith(`${basename(target)}.tmp-`)) continue;
    const leftover = join(dirname(target), name);
    const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' ')[1] ?? '');
    const inside = mounts.find((mountPoint) => mountPoint.startsWith(`${leftover}/`));
    // Removing through a mount would remove what it shows: the host's own /dev, say.
    if (inside !== undefined)
      throw new Error(
        `an interrupted build left ${inside} mounted; unmount it (umount ${inside}), then run this again`,
      );
    await rm(leftover, { recursive: true, force: true });
  }
}

export interface LockOptions {
  /** Called once when somebody else holds the lock. */
  readonly waiting: () => void;
  readonly deadlineMs: number;
  /** Ends the wait for the lock; what is done under it has to end by itself. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Does `work` while holding the lock of that file against every process of the machine. Node has no flock, so a `flock`
 * program holds it for us and lets go when our end of its pipe closes, however we end.
 */
export async function withLock<T>(path: string, options: LockOptions, work: () => Promise<T>): Promise<T> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  // Detached: a Ctrl-C in the terminal must not take the lock away before the work it guards has ended.
  const seconds = String(Math.ceil(options.deadlineMs / 1000));
  const holder = spawn('flock', ['-w', seconds, path, 'sh', '-c', 'echo held; exec cat >/dev/null'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    detached: true,
  });
  const hint = setTimeout(options.waiting, 500);
  const giveUp = () => void holder.kill();
  options.signal?.addEventListener('abort', giveUp);
  try {
    await new Promise<void>((resolve, reject) => {
      holder.stdout.once('data', () => resolve());
      holder.once('error', (cause) =>
        reject(new Error('flock did not start; it is in the package util-linux', { cause })),
      );
      holder.once('exit', () =>
        reject(new Error(`the lock ${path} was not free within ${seconds} s; see who holds it: fuser -v ${path}`)),
      );
    });
    clearTimeout(hint);
    options.signal?.removeEventListener('abort', giveUp);
    options.signal?.throwIfAborted();
    return await work();
  } finally {
    clearTimeout(hint);
    options.signal?.removeEventListener('abort', giveUp);
    holder.removeAllListeners();
    holder.stdin.on('error', () => undefined).end();
  }
}
