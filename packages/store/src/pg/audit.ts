import type { WorkspaceName } from '@torpor/contracts';
import { sql, type Kysely } from 'kysely';
import { bodyOf, CHAIN_START, firstBroken, linkHash } from '../audit-chain.ts';
import type { AuditEntry, AuditLog, AuditRow } from '../store.ts';
import type { Tables } from './tables.ts';

/** Any number that nobody else locks: the chain has one end, and whoever lengthens it holds this. */
const CHAIN_LOCK = 0x746f_7270;
const VERIFY_ROWS = 1_000;
const BATCH_MAX = 500;

export function pgAuditLog(db: Kysely<Tables>): AuditLog {
  let waiting: { entry: AuditEntry; resolve: () => void; reject: (error: unknown) => void }[] = [];
  let writing = false;

  async function writeAll(): Promise<void> {
    if (writing) return;
    writing = true;
    while (waiting.length > 0) {
      const batch = waiting.slice(0, BATCH_MAX);
      waiting = waiting.slice(BATCH_MAX);
      try {
        await lengthen(
          db,
          batch.map(({ entry }) => entry),
        );
        for (const { resolve } of batch) resolve();
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    writing = false;
  }

  return {
    append: (entry) =>
      new Promise((resolve, reject) => {
        waiting.push({ entry, resolve, reject });
        void writeAll(); // its failures reach the entries they concern
      }),
    verify: () => verify(db),
  };
}

export async function listAudit(
  db: Kysely<Tables>,
  workspace: WorkspaceName,
  query: { limit: number; beforeSequence?: number },
): Promise<AuditRow[]> {
  let found = db.selectFrom('audit_log').selectAll().where('workspace', '=', workspace);
  if (query.beforeSequence !== undefined) found = found.where('sequence', '<', query.beforeSequence);
  const rows = await found.orderBy('sequence', 'desc').limit(query.limit).execute();
  return rows.map(({ sequence, hash, body }) => ({ ...(JSON.parse(body) as AuditEntry), sequence, hash })); // bodyOf wrote it
}

async function lengthen(db: Kysely<Tables>, entries: readonly AuditEntry[]): Promise<void> {
  await db.transaction().execute(async (tx) => {
    await sql`select pg_advisory_xact_lock(${CHAIN_LOCK})`.execute(tx);
    const end = await tx
      .selectFrom('audit_log')
      .select(['sequence', 'hash'])
      .orderBy('sequence', 'desc')
      .limit(1)
      .executeTakeFirst();
    let { sequence, hash } = end ?? { sequence: 0, hash: CHAIN_START };
    const rows = entries.map((entry) => {
      const body = bodyOf(entry);
      sequence += 1;
      hash = linkHash(hash, sequence, body);
      return { sequence, workspace: entry.workspace ?? null, body, hash };
    });
    await sql`
      insert into audit_log (sequence, workspace, body, hash)
      select * from unnest(${rows.map((row) => row.sequence)}::bigint[], ${rows.map((row) => row.workspace)}::text[],
        ${rows.map((row) => row.body)}::text[], ${rows.map((row) => row.hash)}::text[])`.execute(tx);
  });
}

async function verify(db: Kysely<Tables>): Promise<{ rows: number; brokenAt?: number }> {
  let before = { sequence: 0, hash: CHAIN_START };
  for (;;) {
    const rows = await db
      .selectFrom('audit_log')
      .selectAll()
      .where('sequence', '>', before.sequence)
      .orderBy('sequence')
      .limit(VERIFY_ROWS)
      .execute();
    // The column only finds rows; the body is what the chain vouches for, so a row filed under another tenant is broken too.
    const misfiled = rows.find(
      (row) => row.workspace !== ((JSON.parse(row.body) as AuditEntry).workspace ?? null),
    )?.sequence; // bodyOf wrote it
    const unchained = firstBroken(rows, before);
    const brokenAt = Math.min(misfiled ?? Infinity, unchained ?? Infinity);
    const last = rows.at(-1);
    if (brokenAt !== Infinity) return { rows: before.sequence + rows.length, brokenAt };
    if (!last) return { rows: before.sequence };
    before = last;
  }
}
