/**
 * The gateway and the scheduler log in to PostgreSQL as roles of their own: whoever captures one of them cannot run programs on the database's host, nor
 * rewrite what was done. Every refusal stands beside something that the same login, or another, is granted.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Client } from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { testStack } from './test-stack.ts';

let urls: Record<'gateway' | 'scheduler', string>;

beforeAll(async () => {
  const { stateDir } = await testStack();
  const urlOf = async (room: string) =>
    (JSON.parse(await readFile(join(stateDir, 'config', `${room}.secrets.json`), 'utf8')) as { databaseUrl: string })
      .databaseUrl; // written by `up`
  urls = { gateway: await urlOf('gateway'), scheduler: await urlOf('sandbox-scheduler') };
});

describe('the database roles of the rooms', () => {
  it('are two, and no superusers', async () => {
    const who = 'select rolname, rolsuper, rolcreaterole, rolcreatedb from pg_roles where rolname = current_user';
    const roles = await Promise.all([urls.gateway, urls.scheduler].map((url) => rowsOf(url, who)));
    const powers = { rolsuper: false, rolcreaterole: false, rolcreatedb: false };
    expect(roles.flat()).toEqual([
      { rolname: 'torpor_gateway', ...powers },
      { rolname: 'torpor_scheduler', ...powers },
    ]);
    expect(await rowsOf(urls.gateway, 'select 1 from pg_roles where rolsuper')).toHaveLength(1); // the view tells of superusers
  });

  it('run no program and read no file on its host', async () => {
    for (const url of Object.values(urls)) {
      expect(await outcome(url, `copy (select 1) to program 'cat > /dev/null'`)).toBe('42501');
      expect(await outcome(url, `select pg_read_file('postgresql.conf')`)).toBe('42501');
      expect(await outcome(url, 'select count(*) from audit_log')).toBe('ok');
    }
  });

  it('let the gateway add to the audit log, and neither change nor shorten it', async () => {
    const row = `(sequence, workspace, body, hash) values (-1, null, '{}', '')`;
    expect(await outcome(urls.gateway, `insert into audit_log ${row}`)).toBe('ok');
    expect(await outcome(urls.gateway, `update audit_log set body = '{}'`)).toBe('42501');
    expect(await outcome(urls.gateway, 'delete from audit_log')).toBe('42501');
    expect(await outcome(urls.gateway, 'truncate audit_log')).toBe('42501');
    expect(await outcome(urls.scheduler, 'delete from audit_log')).toBe('ok');
    expect(await outcome(urls.scheduler, `update audit_log set body = '{}'`)).toBe('42501');
  });

  it("keep what is the scheduler's from the gateway, and the keys from the scheduler", async () => {
    const forged = `update nodes set url = 'http://127.0.0.1:1'`;
    expect([await outcome(urls.scheduler, forged), await outcome(urls.gateway, forged)]).toEqual(['ok', '42501']);
    const keys = 'select secret_hash from api_keys';
    expect([await outcome(urls.gateway, keys), await outcome(urls.scheduler, keys)]).toEqual(['ok', '42501']);
  });

  it('are the only ones that log in with what a room knows', async () => {
    for (const superuser of ['postgres', 'torpor']) {
      const url = new URL(urls.gateway);
      url.username = superuser;
      expect(await outcome(url.href, 'select 1'), superuser).toBe('28P01');
    }
  });
});

async function rowsOf(url: string, text: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url, query_timeout: 20_000 });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

/** `ok`, or PostgreSQL's code: 42501 is a right that one lacks, 28P01 a login that is refused. What it did is rolled back. */
async function outcome(url: string, text: string): Promise<string> {
  const client = new Client({ connectionString: url, query_timeout: 20_000 });
  try {
    await client.connect();
    await client.query('begin');
    await client.query(text);
    await client.query('rollback');
    return 'ok';
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  } finally {
    await client.end();
  }
}
