/**
 * The tables, as rows of JSON: of one moment, by a transaction that reads what was committed before it began. The embedded PostgreSQL ships no pg_dump, and
 * rows need none: what they have in common is the shape that the migrations made, which must be the same where they are restored. Rows stay text from end to
 * end: JavaScript's numbers are not PostgreSQL's.
 */
import { Client } from 'pg';

const ROWS_AT_ONCE = 500;
/** Not of the installation that is restored to: what nodes do and are. */
const OF_THE_MOMENT = new Set(['nodes', 'moves', 'endings', 'idempotency']);

export interface Dump {
  readonly migrations: readonly string[];
  readonly tables: readonly { readonly name: string; readonly rows: readonly string[] }[];
}

export async function withDatabase<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** `also` sees the very same moment. */
export async function dump<T>(client: Client, also: (client: Client) => Promise<T>): Promise<Dump & { also: T }> {
  await client.query('begin isolation level repeatable read read only');
  const migrations = await migrationsOf(client);
  const tables = [];
  for (const name of await tablesOf(client)) {
    if (OF_THE_MOMENT.has(name)) continue;
    const { rows } = await client.query<{ row: string }>(`select to_json(t)::text as row from "${name}" t`);
    tables.push({ name, rows: rows.map(({ row }) => row) });
  }
  const seen = await also(client);
  await client.query('commit');
  return { migrations, tables, also: seen };
}

export async function migrationsOf(client: Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>('select name from kysely_migration order by name');
  return rows.map(({ name }) => name);
}

/** Those that refer to no other first. */
async function tablesOf(client: Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(`
    select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'public' and c.relkind = 'r' and c.relname not like 'kysely%'
    order by (select count(*) from pg_constraint f where f.contype = 'f' and f.conrelid = c.oid), c.relname`);
  return rows.map(({ name }) => name);
}

/** Replaces all that there is, in one commit, and `then` in the same. */
export async function load(client: Client, { tables }: Dump, then: (client: Client) => Promise<void>): Promise<void> {
  await client.query('begin');
  for (const name of (await tablesOf(client)).toReversed()) await client.query(`delete from "${name}"`);
  const known = new Map(tables.map(({ name, rows }) => [name, rows]));
  for (const name of await tablesOf(client)) {
    const rows = known.get(name) ?? [];
    for (let at = 0; at < rows.length; at += ROWS_AT_ONCE) {
      const text = `insert into "${name}" overriding system value select * from json_populate_recordset(null::"${name}", $1)`;
      await client.query(text, [`[${rows.slice(at, at + ROWS_AT_ONCE).join(',')}]`]);
    }
  }
  const { rows: counted } = await client.query<{ table: string; column: string }>(`
    select table_name as table, column_name as column from information_schema.columns
    where table_schema = 'public' and is_identity = 'YES'`);
  for (const { table, column } of counted) {
    await client.query(
      `select setval(pg_get_serial_sequence('${table}', '${column}'), coalesce((select max("${column}") from "${table}"), 0) + 1, false)`,
    );
  }
  await then(client);
  await client.query('commit');
}
