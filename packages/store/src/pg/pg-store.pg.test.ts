import { systemChance } from '@torpor/kernel';
import { startPostgres, type TestPostgres } from '@torpor/testkit';
import { sql } from 'kysely';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeStore } from '../conformance.ts';
import { aesSealing } from '../sealing.ts';
import { connect } from './connection.ts';
import { pgStore } from './pg-store.ts';

const sealing = aesSealing({ key: Buffer.alloc(32, 7).toString('base64'), chance: systemChance });
let postgres: TestPostgres;
beforeAll(async () => {
  postgres = await startPostgres();
}, 60_000);
afterAll(() => postgres?.close());

async function query(text: string) {
  const client = new Client(postgres.url);
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

it('is brought up to date once when several rooms start at the same time', async () => {
  const stores = await Promise.all([1, 2, 3].map(() => pgStore({ url: postgres.url, sealing })));
  expect(await Promise.all(stores.map((store) => store.workspaces.list()))).toEqual([[], [], []]);
  await Promise.all(stores.map((store) => store.close()));
});

describeStore('the store on PostgreSQL', () => pgStore({ url: postgres.url, sealing }));

describe('with a role of its own for each room', () => {
  let own: TestPostgres;
  const urlOf = (role: string) => own.url.replace('torpor@', `${role}@`);
  const open = (role: string) => pgStore({ url: urlOf(role), sealing });
  const ask = async (role: string, text: string) => {
    const client = new Client(urlOf(role));
    await client.connect();
    try {
      return await client.query(text).then(
        () => 'ok',
        (error: Error) => error.message,
      );
    } finally {
      await client.end();
    }
  };
  beforeAll(async () => {
    own = await startPostgres();
    await ask('torpor', 'create role torpor_owner login');
    await ask('torpor', 'grant create on schema public to torpor_owner');
    await ask('torpor', 'create role torpor_gateway login');
    await ask('torpor', 'create role torpor_scheduler login');
    await (await open('torpor_owner')).close();
  }, 60_000);
  afterAll(() => own?.close());

  describeStore('the store of both rooms together', async () => {
    const [gateway, scheduler] = await Promise.all([open('torpor_gateway'), open('torpor_scheduler')]);
    const { list, get } = gateway.fleet;
    const { heard, drain } = scheduler.fleet;
    return {
      ...gateway,
      wanted: scheduler.wanted,
      snapshots: scheduler.snapshots,
      volumes: scheduler.volumes,
      usage: scheduler.usage,
      moves: scheduler.moves,
      fleet: { list, get, heard, drain },
      audit: { ...gateway.audit, prune: (old) => scheduler.audit.prune(old) },
      close: async () => void (await Promise.all([gateway.close(), scheduler.close()])),
    };
  });

  it.each([
    ['torpor_gateway', `update audit_log set body = ''`],
    ['torpor_gateway', 'delete from audit_log'],
    ['torpor_gateway', 'update audit_anchor set sequence = 0'],
    ['torpor_gateway', `update nodes set url = 'http://mine'`],
    ['torpor_gateway', `update sandboxes set node_id = 'mine'`],
    ['torpor_gateway', 'delete from sandboxes'],
    ['torpor_gateway', 'create table mine (a int)'],
    ['torpor_gateway', 'drop table audit_log'],
    ['torpor_scheduler', `update audit_log set body = ''`],
    ['torpor_scheduler', 'select * from api_keys'],
    ['torpor_scheduler', 'select * from secrets'],
  ])('%s may not: %s', async (role, text) => {
    expect(await ask(role, text)).toMatch(/permission denied|must be owner/);
    expect(await ask('torpor_owner', `begin; ${text}; rollback`)).toBe('ok');
  });

  it('lets none of them run a program on the database host', async () => {
    const text = `copy (select 1) to program 'cat > /dev/null'`;
    expect(await ask('torpor', text)).toBe('ok'); // a superuser, here
    for (const role of ['torpor_owner', 'torpor_gateway', 'torpor_scheduler'])
      expect(await ask(role, text)).toMatch(/permission denied to COPY/);
  });
});

it('writes no secret in clear', async () => {
  const store = await pgStore({ url: postgres.url, sealing });
  const { WorkspaceName } = await import('@torpor/contracts');
  await store.workspace(WorkspaceName.parse('clear')).secrets.put({ name: 's', value: 'hunter2', atMs: 1, by: 'a' });
  await store.close();
  const rows = await query(
    'select sealed from secrets union select env_sealed from sandboxes union select sealed from preview_tokens',
  );
  expect(rows.length).toBeGreaterThan(3);
  for (const row of rows) expect(row.sealed).toMatch(/^tp1:[0-9a-f]{8}:/);
});

it('notices a row of the audit log that was changed, removed or filed under another tenant', async () => {
  const store = await pgStore({ url: postgres.url, sealing });
  expect((await store.audit.verify()).brokenAt).toBeUndefined();
  const broken = async (change: string, undo: string) => {
    await query(change);
    const verdict = await store.audit.verify();
    await query(undo);
    return verdict.brokenAt;
  };
  expect(
    await broken(
      `update audit_log set body = replace(body, 'ada', 'eve') where sequence = 3`,
      `update audit_log set body = replace(body, 'eve', 'ada') where sequence = 3`,
    ),
  ).toBe(3);
  expect(
    await broken(
      `update audit_log set workspace = 'x' || workspace where sequence = 2`,
      `update audit_log set workspace = substr(workspace, 2) where sequence = 2`,
    ),
  ).toBe(2);
  expect(
    await broken(
      `update audit_log set sequence = -4 where sequence = 4`,
      `update audit_log set sequence = 4 where sequence = -4`,
    ),
  ).toBe(5);
  expect((await store.audit.verify()).brokenAt).toBeUndefined();
  await store.close();
});

it('says that the database is absent, and works again when it is back', async () => {
  const store = await pgStore({ url: postgres.url, sealing });
  await expect(pgStore({ url: 'postgres://torpor@127.0.0.1:1/postgres', sealing })).rejects.toThrow(/database/);
  await query(
    `select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'`,
  );
  const answers = await Promise.allSettled(Array.from({ length: 5 }, () => store.ping()));
  const reasons = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason.code] : []));
  expect(new Set([...reasons, 'unavailable'])).toEqual(new Set(['unavailable']));
  await store.ping();
  await store.close();
});

it('outlives a connection that breaks between two statements of a transaction', async () => {
  const connection = connect({ url: postgres.url, poolMax: 1, onIdleError: () => undefined });
  const broken = connection.db.transaction().execute(async (tx) => {
    const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(tx);
    const [pid] = rows.map((row) => row.pid);
    await query(`select pg_terminate_backend(${pid})`);
    const isThere = () => query(`select 1 from pg_stat_activity where pid = ${pid}`);
    await expect.poll(isThere, { timeout: 10_000 }).toEqual([]);
    await sql`select 1`.execute(tx);
  });
  await expect(broken).rejects.toMatchObject({ code: 'unavailable' });
  expect((await sql`select 1`.execute(connection.db)).rows).toHaveLength(1);
  await connection.close();
});
