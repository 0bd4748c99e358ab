import type { WorkspaceName } from '@torpor/contracts';
import { sql, type Kysely } from 'kysely';
import { bodyOf, CHAIN_START, countOld, firstBroken, linkHash } from '../audit-chain.ts';
import type { AuditEntry, AuditLog, AuditRow, Old } from '../store.ts';
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
    prune: (old) => prune(db, old),
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
    let { sequence, hash } = end ?? (await beginning(tx));
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

/** The link before the first row: of the last one that was pruned, or of none. */
async function beginning(db: Kysely<Tables>): Promise<{ sequence: number; hash: string }> {
  const anchor = await db.selectFrom('audit_anchor').select(['sequence', 'hash']).executeTakeFirst();
  return anchor ?? { sequence: 0, hash: CHAIN_START };
}

/** Under the lock of the chain, so that two who prune do not move its beginning back, and none who appends misses it. */
function prune(db: Kysely<Tables>, old: Old): Promise<number> {
  return db.transaction().execute(async (tx) => {
    await sql`select pg_advisory_xact_lock(${CHAIN_LOCK})`.execute(tx);
    const oldest = tx.selectFrom('audit_log').select(['sequence', 'hash', 'body']).orderBy('sequence').limit(old.limit);
    const rows = await oldest.execute();
    const gone = rows.slice(0, countOld(rows, old));
    const last = gone.at(-1);
    if (!last) return 0;
    await tx.deleteFrom('audit_log').where('sequence', '<=', last.sequence).execute();
    const { sequence, hash } = last;
    await tx
      .insertInto('audit_anchor')
      .values({ sequence, hash })
      .onConflict((there) => there.column('is_only').doUpdateSet({ sequence, hash }))
      .execute();
    return gone.length;
  });
}

/** In one snapshot, for somebody may prune meanwhile. */
function verify(db: Kysely<Tables>): Promise<{ rows: number; brokenAt?: number }> {
  return db.transaction().setIsolationLevel('repeatable read').execute(walk);
}

async function walk(db: Kysely<Tables>): Promise<{ rows: number; brokenAt?: number }> {
  const first = await beginning(db);
  let before = first;
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
    if (brokenAt !== Infinity) return { rows: before.sequence - first.sequence + rows.length, brokenAt };
    if (!last) return { rows: before.sequence - first.sequence };
    before = last;
  }
}
