/** Makes the directories of an installation. What a service writes is owned by the service's own account, and closed to the others. */
import { chmod, chown, mkdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { runRead } from '../command.ts';
import type { Account, Accounts } from './accounts.ts';
import type { Installation } from './installation.ts';
import type { StackNode } from './nodes.ts';

export interface Layout {
  readonly accounts: Accounts;
  /** Files that services are configured by: each its own service's to read, and nobody's to write. Made anew at each start. */
  readonly configDir: string;
  readonly postgresDir: string;
  readonly natsDir: string;
  /** Where Node keeps the compiled form of a room's sources. One for each: who writes another's has it run what it likes. */
  readonly compileCacheDirs: Readonly<Record<'gateway' | 'scheduler' | 'node', string>>;
  readonly logFile: string;
}

export async function layOut(
  installation: Installation,
  accounts: Accounts,
  signal?: AbortSignal,
  nodes: readonly Pick<StackNode, 'stateDir'>[] = [],
): Promise<Layout> {
  const { stateDir, runDir } = installation;
  for (const path of [stateDir, runDir, dirname(runDir)]) await ownDirectory(path, ROOT, 0o755);
  const at = (...names: string[]) => join(stateDir, ...names);
  await rm(at('config'), { recursive: true, force: true });
  await rm(at('compile-cache'), { recursive: true, force: true }); // an earlier version's, which every room could write
  await ownDirectory(at('config'), ROOT, 0o711);
  await ownDirectory(at('compiled'), ROOT, 0o711);
  const own = async (path: string, account: Account) => {
    await handOver(path, account, signal);
    return ownDirectory(path, account, 0o700);
  };
  const { gateway, scheduler, node, nats, postgres } = accounts;
  for (const { stateDir: path } of nodes) await own(path, node);
  return {
    accounts,
    configDir: at('config'),
    postgresDir: await own(at('postgres'), postgres),
    natsDir: await own(at('nats'), nats),
    compileCacheDirs: {
      gateway: await own(at('compiled', 'gateway'), gateway),
      scheduler: await own(at('compiled', 'scheduler'), scheduler),
      node: await own(at('compiled', 'node'), node),
    },
    logFile: at('torpor.log'),
  };
}

/** Every file of a node, on a slow disk. */
const HAND_OVER_MS = 5 * 60_000;

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
async function handOver(path: string, { uid, gid }: Account, signal: AbortSignal | undefined): Promise<void> {
  const found = await stat(path).catch(() => undefined); // not made yet
  if (found === undefined || found.uid === uid) return;
  const argv = ['chown', '--recursive', '--no-dereference', `${uid}:${gid}`, path];
  await runRead(argv, { deadlineMs: HAND_OVER_MS, signal });
}
