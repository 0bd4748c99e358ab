import { systemChance } from '@torpor/kernel';
import { aesSealing, migrationNames, pgStore } from '@torpor/store';
import { startPostgres, type TestPostgres } from '@torpor/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { dump, load, withDatabase, type Dump } from './database.ts';

const sealing = aesSealing({ key: Buffer.alloc(32, 7).toString('base64'), chance: systemChance });
let postgres: TestPostgres;
beforeAll(async () => {
  postgres = await startPostgres();
}, 60_000);
afterAll(() => postgres?.close());

/** In this version's shape, with nothing in it. */
async function fresh(name: string): Promise<string> {
  await withDatabase(postgres.url, (client) => client.query(`create database ${name}`));
  const url = postgres.url.replace(/postgres$/, name);
  await (await pgStore({ url, sealing })).close();
  return url;
}

const dumped = (url: string): Promise<Dump> =>
  withDatabase(url, async (client) => {
    const { migrations, tables } = await dump(client, async () => undefined);
    return { migrations, tables };
  });

it('brings every row back as it was, to the last digit, and numbers new ones after them', async () => {
  const [here, there] = [await fresh('here'), await fresh('there')];
  await withDatabase(here, async (client) => {
    await client.query(`insert into workspaces (name, display_name, created_at_ms, created_by, wake_budget)
      values ('a', 'A', 1800000000000.123, 'ada', '{"kind":"p99","ms":25.5}'), ('b', 'ü "b"', 2, 'ada', null)`);
    await client.query(`insert into previews (id, workspace, sandbox, name, port, public, extra, created_at_ms, updated_at_ms, created_by)
      values ('p', 'a', 'box', 'web', 3000, true, '{"n":12345678901234567890}', 1, 1, 'ada')`);
    await client.query(`insert into preview_tokens (preview_id, name, hash, sealed, created_at_ms)
      values ('p', 't', '\\x00ff', 'sealed', 1)`);
  });
  const before = await dumped(here);
  expect(before.migrations).toEqual(migrationNames());
  await withDatabase(there, async (client) => {
    await client.query(`insert into workspaces values ('of the first start', '', 1, '')`);
    await load(client, before, async () => {});
  });
  expect(await dumped(there)).toEqual(before);
  const rows = new Map(before.tables.map(({ name, rows: all }) => [name, all]));
  expect(rows.get('workspaces')?.join()).toContain('1800000000000.123');
  expect(rows.get('previews')?.join()).toContain('12345678901234567890');
  expect(rows.has('nodes')).toBe(false);
});

it('changes nothing when a row will not go in', async () => {
  const url = await fresh('kept');
  await withDatabase(url, (client) => client.query(`insert into workspaces values ('there', '', 1, '')`));
  const before = await dumped(url);
  const broken: Dump = { migrations: [], tables: [{ name: 'workspaces', rows: ['{"name":null}'] }] };
  const work = withDatabase(url, (client) => load(client, broken, async () => {}));
  await expect(work).rejects.toThrow(/null value/);
  expect(await dumped(url)).toEqual(before);
});
