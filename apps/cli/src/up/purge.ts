import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { runRead } from '../command.ts';
import { ensureSetup } from '../setup/setup.ts';
import type { Installation } from './installation.ts';
import { scopeOf } from './installation.ts';
import { hostdRunDir, hostdSocket, NODE_ID } from './stack.ts';
import { endOrphans, pidFileOf } from './supervisor.ts';

/** Hundreds of sandboxes, on a machine that does much else. */
const PURGE_MS = 10 * 60_000;

/** For who holds the lock. Ends every sandbox of the installation and removes all it has on the host. Answers a sentence that says how many. */
export async function purge(installation: Installation): Promise<string> {
  const left = await endOrphans(pidFileOf(installation));
  const { stateDir, runDir } = installation;
  const poolFile = join(stateDir, 'pool.img');
  const scope = scopeOf(installation.id, NODE_ID);
  let sandboxes = 0;
  if (existsSync(hostdRunDir(scope)) || existsSync(poolFile)) {
    const { hostd, runsc } = await ensureSetup({ want: ['hostd', 'runsc'], out: process.stderr });
    const argv = [
      hostd,
      '--purge',
      '--scope',
      scope,
      '--run-dir',
      hostdRunDir(scope),
      '--socket',
      hostdSocket(scope),
      '--pool-file',
      poolFile,
      '--pool-dir',
      join(stateDir, 'pool'),
      '--runsc',
      runsc,
    ];
    const answer = JSON.parse(await runRead(argv, { deadlineMs: PURGE_MS })) as { sandboxes: number }; // hostd's documented output
    sandboxes = answer.sandboxes;
  }
  await rm(stateDir, { recursive: true, force: true });
  await rm(runDir, { recursive: true, force: true }); // last: the lock is in it
  const orphans = left > 0 ? ` ${left} processes of a killed supervisor were ended.` : '';
  return `Purged: ${sandboxes} sandboxes ended, pool instances among them; everything of this installation is gone.${orphans}`;
}
