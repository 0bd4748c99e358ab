import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { runRead } from '../command.ts';
import { ensureSetup } from '../setup/setup.ts';
import type { Installation } from './installation.ts';
import { nodesOf, type StackNode } from './nodes.ts';
import { knownPlaces, type Places } from './places.ts';
import { hostdRunDir, hostdSocket } from './stack.ts';
import { endOrphans, pidFileOf } from './supervisor.ts';

/** Hundreds of sandboxes, on a machine that does much else. */
const PURGE_MS = 10 * 60_000;

/** For who holds the lock. Ends every sandbox of the installation and removes all it has on the host. Answers a sentence that says how many. */
export async function purge(installation: Installation): Promise<string> {
  const left = await endOrphans(pidFileOf(installation));
  const { stateDir, runDir } = installation;
  let sandboxes = 0;
  for (const node of nodesOf(installation, (await knownPlaces(installation)) ?? NOWHERE))
    sandboxes += await purgeNode(node);
  await rm(stateDir, { recursive: true, force: true });
  await rm(runDir, { recursive: true, force: true }); // last: the lock is in it
  const orphans = left > 0 ? ` ${left} processes of a killed supervisor were ended.` : '';
  return `Purged: ${sandboxes} sandboxes ended, pool instances among them; everything of this installation is gone.${orphans}`;
}

/** Of one that was never up, the names alone count. */
const NOWHERE: Places = {
  ports: {
    gateway: 0,
    nats: 0,
    postgres: 0,
    data: 0,
    dns: 0,
    observeGateway: 0,
    observeScheduler: 0,
    observeNode: 0,
  },
  subnet: '',
  moreNodes: [],
};

async function purgeNode({ scope, poolFile, poolDir }: StackNode): Promise<number> {
  if (!existsSync(hostdRunDir(scope)) && !existsSync(poolFile)) return 0;
  const { hostd, runsc } = await ensureSetup({ want: ['hostd', 'runsc'], out: process.stderr });
  const argv = [
    ...[hostd, '--purge', '--scope', scope, '--run-dir', hostdRunDir(scope), '--socket', hostdSocket(scope)],
    ...['--pool-file', poolFile, '--pool-dir', poolDir, '--runsc', runsc],
  ];
  return (JSON.parse(await runRead(argv, { deadlineMs: PURGE_MS })) as { sandboxes: number }).sandboxes; // hostd's documented output
}
