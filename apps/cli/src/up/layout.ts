/** Makes the directories of an installation. What a service writes is owned by the service's own account, and closed to the others. */
import { spawn } from 'node:child_process';
import { chmod, chown, mkdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Account, Accounts } from './accounts.ts';
import type { Installation } from './installation.ts';

export interface Layout {
  readonly accounts: Accounts;
  /** Files that services are configured by: each its own service's to read, and nobody's to write. Made anew at each start. */
  readonly configDir: string;
  readonly postgresDir: string;
  readonly natsDir: string;
  readonly nodeDir: string;
  /** Where Node keeps the compiled form of a room's sources. One for each: who writes another's has it run what it likes. */
  readonly compileCacheDirs: Readonly<Record<'gateway' | 'scheduler' | 'node', string>>;
  readonly poolFile: string;
  readonly poolDir: string;
  readonly logFile: string;
}

export async function layOut(installation: Installation, accounts: Accounts): Promise<Layout> {
  const { stateDir, runDir } = installation;
  for (const path of [stateDir, runDir, dirname(runDir)]) await ownDirectory(path, ROOT, 0o755);
  const at = (...names: string[]) => join(stateDir, ...names);
  await rm(at('config'), { recursive: true, force: true });
  await rm(at('compile-cache'), { recursive: true, force: true }); // an earlier version's, which every room could write
  await ownDirectory(at('config'), ROOT, 0o711);
  await ownDirectory(at('compiled'), ROOT, 0o711);
  const own = async (path: string, account: Account) => {
    await handOver(path, account);
    return ownDirectory(path, account, 0o700);
  };
  const { gateway, scheduler, node, nats, postgres } = accounts;
  return {
    accounts,
    configDir: at('config'),
    postgresDir: await own(at('postgres'), postgres),
    natsDir: await own(at('nats'), nats),
    nodeDir: await own(at('node'), node),
    compileCacheDirs: {
      gateway: await own(at('compiled', 'gateway'), gateway),
      scheduler: await own(at('compiled', 'scheduler'), scheduler),
      node: await own(at('compiled', 'node'), node),
    },
    poolFile: at('pool.img'),
    poolDir: at('pool'),
    logFile: at('torpor.log'),
  };
}

const ROOT: Account = { uid: 0, gid: 0 };

async function ownDirectory(path: string, { uid, gid }: Account, mode: number): Promise<string> {
  await mkdir(path, { recursive: true });
  await chmod(path, mode);
  await chown(path, uid, gid);
  return path;
}

/**
 * Gives a directory with all that is in it to an account, where another has it: an earlier version ran every room as one. Links are given, not followed.
 * chown comes to a directory after what is in it, so an interrupted hand-over is taken up again.
 */
async function handOver(path: string, { uid, gid }: Account): Promise<void> {
  const found = await stat(path).catch(() => undefined); // not made yet
  if (found === undefined || found.uid === uid) return;
  await run('chown', ['--recursive', '--no-dereference', `${uid}:${gid}`, path]);
}

/** Runs a program to its end; rejects with what it said when that is not success. */
export function run(
  command: string,
  args: readonly string[],
  options: { user?: Account; env?: NodeJS.ProcessEnv } = {},
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
