/**
 * The roles of the embedded PostgreSQL. Its superuser can run programs as PostgreSQL's account, so nobody logs in as it: it has no password, and acts only
 * here, in PostgreSQL's single-user mode, before the server starts. `torpor_owner` has the tables, for the migrations; the gateway and the scheduler each
 * have a role that may do what `packages/store/src/pg/grants.ts` says.
 */
import { createHash } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { runRead } from '../command.ts';
import type { Installation } from './installation.ts';
import type { Keys } from './keys.ts';
import type { Layout } from './layout.ts';
import { postgresBinary } from './postgres.ts';
import { writeWhole } from './write-whole.ts';

const SINGLE_MS = 5 * 60_000; // it recovers first what a killed server left

/** For a cluster whose server does not run. Does nothing when it was done with these passwords already. */
export async function ensureRoles(
  { installation, layout, keys }: { installation: Installation; layout: Layout; keys: Keys },
  { cluster, roomsDir, signal }: { cluster: 'made' | 'found'; roomsDir: string; signal: AbortSignal },
): Promise<void> {
  const stampFile = join(installation.stateDir, 'database-roles');
  const input = rolesSql(keys.database);
  const stamp = createHash('sha256').update(input).digest('hex');
  if (cluster === 'made') await rm(stampFile, { force: true });
  if ((await readFile(stampFile, 'utf8').catch(() => '')) === stamp) return; // absent: not done yet
  const argv = [
    ...[postgresBinary(roomsDir, 'postgres'), '--single', '-j', '-D', join(layout.postgresDir, 'data')],
    // It would go on after an error, and would print statements with passwords.
    ...['-c', 'exit_on_error=on', '-c', 'log_min_error_statement=panic', '-c', 'unix_socket_directories='],
    'postgres',
  ];
  const env = { LC_ALL: 'C.UTF-8', TZ: 'UTC' };
  await runRead(argv, { user: layout.accounts.postgres, cwd: '/', env, input, deadlineMs: SINGLE_MS, signal });
  await writeWhole(stampFile, stamp, 0o600);
}

/** Statements for single-user mode, each ended by a semicolon and an empty line. Passwords are base64url: nothing in them needs quoting. */
export function rolesSql({ owner, gateway, scheduler }: Keys['database']): string {
  const roles = { torpor_owner: owner, torpor_gateway: gateway, torpor_scheduler: scheduler };
  const names = Object.keys(roles).join(', ');
  const statements = [
    // An earlier version's rooms had the superuser's password.
    'alter role current_user password null',
    ...Object.entries(roles).flatMap(([name, password]) => [
      `do $$ begin if not exists (select from pg_roles where rolname = '${name}') then create role ${name}; end if; end $$`,
      `alter role ${name} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password '${password}'`,
    ]),
    'revoke all on database postgres from public',
    `grant connect on database postgres to ${names}`,
    'grant usage, create on schema public to torpor_owner',
    // An earlier version's tables are the superuser's.
    `do $$ declare name text; begin
      for name in select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' loop
        execute format('alter table public.%I owner to torpor_owner', name); end loop; end $$`,
  ];
  return statements.map((statement) => `${statement};\n\n`).join('');
}
