import { readFile } from 'node:fs/promises';
import { contentKey } from '../cache.ts';
import { runLogged } from '../command.ts';
import type { Step } from '../step.ts';

/** The account of the rooms and of PostgreSQL: no shell, no home, nothing of its own but what `up` gives it. */
export const roomsUser = 'torpor';

export function systemUser(): Step {
  return {
    id: 'user',
    title: `the system user ${roomsUser}`,
    key: contentKey([roomsUser]),
    needs: [],
    after: ['debian'],
    heavy: false,
    deadlineMs: 60_000,
    next: `run as root; or add it by hand: useradd --system --user-group ${roomsUser}`,
    present: async () => new RegExp(`^${roomsUser}:`, 'm').test(await readFile('/etc/passwd', 'utf8')),
    run: (place) =>
      runLogged(
        place.logPath,
        [
          'useradd',
          '--system',
          '--user-group',
          '--no-create-home',
          '--home-dir',
          '/nonexistent',
          '--shell',
          '/usr/sbin/nologin',
          roomsUser,
        ],
        { deadlineMs: 30_000, signal: place.signal },
      ),
  };
}
