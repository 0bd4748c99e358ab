/** Makes the directories of an installation; what rooms write is owned by the unprivileged user that they run as. */
import { spawn } from 'node:child_process';
import { chmod, chown, mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Installation } from './installation.ts';

export interface RoomUser {
  readonly uid: number;
  readonly gid: number;
}

export interface Layout {
  readonly user: RoomUser;
  /** Files that rooms are configured by: theirs to read, not to write. */
  readonly configDir: string;
  readonly postgresDir: string;
  readonly natsDir: string;
  readonly nodeDir: string;
  readonly compileCacheDir: string;
  readonly poolFile: string;
  readonly poolDir: string;
  readonly logFile: string;
}

export async function layOut(installation: Installation, user: RoomUser): Promise<Layout> {
  const { stateDir, runDir } = installation;
  const own = async (path: string, mode: number) => {
    await mkdir(path, { recursive: true });
    await chmod(path, mode);
    await chown(path, user.uid, user.gid);
    return path;
  };
  // Root writes here at each start, so nobody else may: a link in place of a file would have root write wherever it leads.
  const show = async (path: string) => {
    await mkdir(path, { recursive: true });
    await chown(path, 0, user.gid);
    await chmod(path, 0o750);
    return path;
  };
  for (const path of [stateDir, runDir, dirname(runDir)]) {
    await mkdir(path, { recursive: true });
    await chmod(path, 0o755);
  }
  return {
    user,
    configDir: await show(join(stateDir, 'config')),
    postgresDir: await own(join(stateDir, 'postgres'), 0o700),
    natsDir: await own(join(stateDir, 'nats'), 0o700),
    nodeDir: await own(join(stateDir, 'node'), 0o700),
    compileCacheDir: await own(join(stateDir, 'compile-cache'), 0o700),
    poolFile: join(stateDir, 'pool.img'),
    poolDir: join(stateDir, 'pool'),
    logFile: join(stateDir, 'torpor.log'),
  };
}

/** Runs a program to its end; rejects with what it said when that is not success. */
export function run(
  command: string,
  args: readonly string[],
  options: { user?: RoomUser; env?: NodeJS.ProcessEnv } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, [...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: '/',
      env: options.env ?? process.env,
      ...(options.user ? { uid: options.user.uid, gid: options.user.gid } : {}),
    });
    let said = '';
    let out = '';
    child.stdout.on('data', (bytes: Buffer) => {
      out += bytes.toString();
    });
    child.stderr.on('data', (bytes: Buffer) => {
      said += bytes.toString();
    });
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve(out);
      else reject(new Error(`${command} ${args.join(' ')} ended with ${code}: ${(said || out).trim().slice(-2_000)}`));
    });
  });
}

/** The ids of an account of this machine. */
export async function idsOf(account: string): Promise<RoomUser> {
  const line = (await readFile('/etc/passwd', 'utf8')).split('\n').find((entry) => entry.startsWith(`${account}:`));
  const [, , uid, gid] = line?.split(':') ?? [];
  if (uid === undefined || gid === undefined)
    throw new Error(`this machine has no account "${account}"; the set-up makes it`);
  return { uid: Number(uid), gid: Number(gid) };
}
