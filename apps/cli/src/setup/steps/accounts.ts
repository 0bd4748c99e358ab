import { readFile } from 'node:fs/promises';
import { contentKey } from '../cache.ts';
import { runLogged } from '../../command.ts';
import type { Step } from '../step.ts';

/**
 * The accounts that services run as: one each, with a group of its own, so that none reads what another was given. No shell, no home, nothing of their
 * own but what `up` gives them. All installations of a machine share them.
 */
export const accounts = {
  gateway: 'torpor-gateway',
  scheduler: 'torpor-scheduler',
  node: 'torpor-node',
  nats: 'torpor-nats',
  postgres: 'torpor-postgres',
} as const;
export type AccountOf = keyof typeof accounts;

const names = Object.values(accounts);

export function systemAccounts(): Step {
  return {
    id: 'accounts',
    title: 'the system accounts of the services',
    key: contentKey(names),
    needs: [],
    after: ['debian'], // whose packages may add accounts too
    heavy: false,
    deadlineMs: 60_000,
    next: `run as root; or add each by hand: useradd --system --user-group NAME, for ${names.join(', ')}`,
    present: async () => (await missing()).length === 0,
    run: async (place) => {
      for (const name of await missing())
        await runLogged(place.logPath, ['useradd', ...bare, name], { deadlineMs: 30_000, signal: place.signal });
    },
  };
}

const bare = '--system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin'.split(' ');

async function missing(): Promise<string[]> {
  const known = new Set((await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':')[0]));
  return names.filter((name) => !known.has(name));
}
