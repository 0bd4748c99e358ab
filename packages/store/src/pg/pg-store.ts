import type { WakeBudget, WorkspaceName } from '@torpor/contracts';
import { sql, type Kysely, type Selectable } from 'kysely';
import type { ApiKey, NewApiKey } from '../keys.ts';
import type { Sealing } from '../sealing.ts';
import type {
  Fleet,
  IdempotencyShelf,
  KeyRing,
  SecretShelf,
  Store,
  Workspace,
  WorkspaceList,
  WorkspaceStore,
} from '../store.ts';
import { listAudit, pgAuditLog } from './audit.ts';
import { connect } from './connection.ts';
import { migrate } from './migrations.ts';
import { findPublicPreview, pgPreviewShelf } from './previews.ts';
import { keyOf, nodeOf } from './rows.ts';
import { pgSandboxShelf } from './sandbox-shelf.ts';
import { listSnapshotRecords, pgSnapshotBook } from './snapshots.ts';
import type { Tables } from './tables.ts';
import { pgUsageBook, sumUsage, usedStretches } from './usage.ts';
import { pgMoves } from './moves.ts';
import { pgVolumeBook, pgVolumeShelf } from './volumes.ts';
import { pgWanted } from './wanted.ts';

export interface PgStoreOptions {
  /** `postgres://user:password@host:port/database`. */
  readonly url: string;
  readonly poolMax?: number;
  readonly sealing: Sealing;
  /** Told of idle connections that broke; they are replaced by themselves. */
  readonly onIdleError?: (error: Error) => void;
}

/** The store on PostgreSQL. Brings the schema up to date before it answers. Rejections of an absent database are `unavailable`. */
export async function pgStore(options: PgStoreOptions): Promise<Store> {
  const { db, close } = connect({
    url: options.url,
    poolMax: options.poolMax ?? 10,
    onIdleError: options.onIdleError ?? (() => {}),
  });
  const { sealing } = options;
  try {
    await migrate(db as unknown as Kysely<never>); // the migrator builds tables and so knows none
  } catch (error) {
    await close();
    throw error;
  }
  return {
    workspace: (name): WorkspaceStore => ({
      name,
      sandboxes: pgSandboxShelf(db, sealing, name),
      previews: pgPreviewShelf(db, sealing, name),
      volumes: pgVolumeShelf(db, name),
      keys: {
        list: () => listKeys(db, name),
        create: (key) => createKey(db, key, name),
        revoke: (id, atMs) => revokeKey(db, id, atMs, name),
      },
      secrets: secretShelf(db, sealing, name),
      snapshots: { list: () => listSnapshotRecords(db, name) },
      usage: { sum: (span) => sumUsage(db, name, span), stretches: (of) => usedStretches(db, name, of) },
      audit: { list: (query) => listAudit(db, name, query) },
      idempotency: idempotencyShelf(db, name),
    }),
    workspaces: workspaceList(db),
    keys: keyRing(db),
    publicPreviews: { find: (id) => findPublicPreview(db, id) },
    fleet: fleet(db),
    wanted: pgWanted(db, sealing),
    snapshots: pgSnapshotBook(db, sealing),
    moves: pgMoves(db),
    volumes: pgVolumeBook(db),
    usage: pgUsageBook(db),
    audit: pgAuditLog(db),
    ping: async () => void (await sql`select 1`.execute(db)),
    close,
  };
}

function workspaceList(db: Kysely<Tables>): WorkspaceList {
  const get = async (name: WorkspaceName) => {
    const row = await db.selectFrom('workspaces').selectAll().where('name', '=', name).executeTakeFirst();
    return row && workspaceOf(row);
  };
  return {
    list: async () =>
      (await db.selectFrom('workspaces').selectAll().orderBy('created_at_ms').orderBy('name').execute()).map(
        workspaceOf,
      ),
    get,
    create: async (workspace) => {
      const { name, displayName: display_name, createdAtMs: created_at_ms, createdBy: created_by } = workspace;
      const made = await db
        .insertInto('workspaces')
        .values({ name, display_name, created_at_ms, created_by })
        .onConflict((taken) => taken.column('name').doNothing())
        .returning('name')
        .executeTakeFirst();
      return made ? { kind: 'created', workspace } : { kind: 'taken', workspace: (await get(name)) ?? workspace };
    },
    setWakeBudget: async (name, budget) => {
      const row = await db
        .updateTable('workspaces')
        .set({ wake_budget: budget ? JSON.stringify(budget) : null })
        .where('name', '=', name)
        .returningAll()
        .executeTakeFirst();
      return row && workspaceOf(row);
    },
  };
}

function workspaceOf(row: Selectable<Tables['workspaces']>): Workspace {
  return {
    name: row.name as WorkspaceName, // parsed before it was written
    displayName: row.display_name,
    ...(row.wake_budget === null ? {} : { wakeBudget: row.wake_budget as WakeBudget }), // likewise
    createdAtMs: row.created_at_ms,
    createdBy: row.created_by,
  };
}

function keyRing(db: Kysely<Tables>): KeyRing {
  return {
    findByPrefix: async (prefix) => {
      const row = await db.selectFrom('api_keys').selectAll().where('prefix', '=', prefix).executeTakeFirst();
      return row && { key: keyOf(row), secretHash: row.secret_hash };
    },
    createPersonal: (key) => createKey(db, key, null),
    listPersonal: () => listKeys(db, null),
    revokePersonal: (id, atMs) => revokeKey(db, id, atMs, null),
    noteUse: async (uses) => {
      if (uses.length === 0) return;
      await sql`
        update api_keys set last_used_at_ms = greatest(coalesce(last_used_at_ms, 0), use.at_ms)
        from unnest(${uses.map((use) => use.id)}::text[], ${uses.map((use) => use.atMs)}::double precision[]) as use (id, at_ms)
        where api_keys.id = use.id`.execute(db);
    },
  };
}

async function listKeys(db: Kysely<Tables>, workspace: WorkspaceName | null): Promise<ApiKey[]> {
  const rows = db.selectFrom('api_keys').selectAll().where('workspace', 'is not distinct from', workspace);
  return (await rows.orderBy('created_at_ms').orderBy('id').execute()).map(keyOf);
}

async function createKey(db: Kysely<Tables>, key: NewApiKey, workspace: WorkspaceName | null): Promise<ApiKey> {
  const row = await db
    .insertInto('api_keys')
    .values({
      id: key.id,
      prefix: key.prefix,
      secret_hash: Buffer.from(key.secretHash),
      name: key.name,
      subject: key.subject,
      role: key.role,
      scopes: key.scopes ? [...key.scopes] : null,
      workspace,
      created_at_ms: key.createdAtMs,
      created_by: key.createdBy,
      expires_at_ms: key.expiresAtMs ?? null,
      last_used_at_ms: null,
      revoked_at_ms: null,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
  return keyOf(row);
}

async function revokeKey(
  db: Kysely<Tables>,
  id: string,
  atMs: number,
  workspace: WorkspaceName | null,
): Promise<ApiKey | undefined> {
  const row = await db
    .updateTable('api_keys')
    .set({ revoked_at_ms: sql`coalesce(revoked_at_ms, ${atMs})` })
    .where('id', '=', id)
    .where('workspace', 'is not distinct from', workspace)
    .returningAll()
    .executeTakeFirst();
  return row && keyOf(row);
}

function secretShelf(db: Kysely<Tables>, sealing: Sealing, workspace: WorkspaceName): SecretShelf {
  const place = (name: string) => ({ workspace, kind: 'secret', name });
  return {
    list: async () => {
      const rows = await db
        .selectFrom('secrets')
        .select(['name', 'updated_at_ms', 'updated_by'])
        .where('workspace', '=', workspace)
        .orderBy(sql`name collate "C"`)
        .execute();
      return rows.map((row) => ({ name: row.name, updatedAtMs: row.updated_at_ms, updatedBy: row.updated_by }));
    },
    put: async ({ name, value, atMs, by }) => {
      const values = { sealed: sealing.seal(place(name), value), updated_at_ms: atMs, updated_by: by };
      await db
        .insertInto('secrets')
        .values({ workspace, name, ...values })
        .onConflict((taken) => taken.columns(['workspace', 'name']).doUpdateSet(values))
        .execute();
    },
    get: async (name) => {
      const row = await db
        .selectFrom('secrets')
        .select('sealed')
        .where('workspace', '=', workspace)
        .where('name', '=', name)
        .executeTakeFirst();
      return row && sealing.open(place(name), row.sealed);
    },
    delete: async (name) => {
      const gone = await db
        .deleteFrom('secrets')
        .where('workspace', '=', workspace)
        .where('name', '=', name)
        .executeTakeFirst();
      return gone.numDeletedRows > 0n;
    },
  };
}

function idempotencyShelf(db: Kysely<Tables>, workspace: WorkspaceName): IdempotencyShelf {
  return {
    begin: async ({ key, requestHash, nowMs, claimUntilMs, expiresAtMs }) => {
      const { rows } = await sql`
        insert into idempotency (workspace, key, request_hash, claim_until_ms, expires_at_ms)
        values (${workspace}, ${key}, ${requestHash}, ${claimUntilMs}, ${expiresAtMs})
        on conflict (workspace, key) do update
          set request_hash = excluded.request_hash, answer = null,
            claim_until_ms = excluded.claim_until_ms, expires_at_ms = excluded.expires_at_ms
          where case when idempotency.answer is null then idempotency.claim_until_ms else idempotency.expires_at_ms end <= ${nowMs}
        returning 1`.execute(db);
      if (rows.length > 0) return { kind: 'begun' };
      const there = await db
        .selectFrom('idempotency')
        .select(['request_hash', 'answer'])
        .where('workspace', '=', workspace)
        .where('key', '=', key)
        .executeTakeFirst();
      if (there && there.request_hash !== requestHash) return { kind: 'mismatch' };
      // Abandoned between the two looks: its holder is only just done, so "running" is still the truth to act on.
      return there?.answer ? { kind: 'answered', answer: there.answer.answer } : { kind: 'running' };
    },
    finish: async ({ key, claimUntilMs }, answer) => {
      await db
        .updateTable('idempotency')
        .set({ answer: JSON.stringify({ answer }) })
        .where('workspace', '=', workspace)
        .where('key', '=', key)
        .where('claim_until_ms', '=', claimUntilMs)
        .execute();
    },
    abandon: async ({ key, claimUntilMs }) => {
      await db
        .deleteFrom('idempotency')
        .where('workspace', '=', workspace)
        .where('key', '=', key)
        .where('claim_until_ms', '=', claimUntilMs)
        .where('answer', 'is', null)
        .execute();
    },
  };
}

function fleet(db: Kysely<Tables>): Fleet {
  return {
    heard: async (node) => {
      const values = {
        url: node.url,
        isolation: node.isolation,
        templates: [...node.templates],
        capacity: JSON.stringify(node.capacity),
        pool: JSON.stringify(node.pool),
        heard_at_ms: node.heardAtMs,
        lease_until_ms: node.leaseUntilMs,
      };
      await db
        .insertInto('nodes')
        .values({ id: node.id, ...values })
        .onConflict((there) => there.column('id').doUpdateSet(values).where('nodes.heard_at_ms', '<=', node.heardAtMs))
        .execute();
    },
    get: async (id) => {
      const row = await db.selectFrom('nodes').selectAll().where('id', '=', id).executeTakeFirst();
      return row && nodeOf(row);
    },
    list: async () => (await db.selectFrom('nodes').selectAll().orderBy('id').execute()).map(nodeOf),
    drain: async (id, sinceMs) => {
      const drained = await db
        .updateTable('nodes')
        .set({ draining_since_ms: sinceMs ?? null })
        .where('id', '=', id)
        .executeTakeFirst();
      return drained.numUpdatedRows > 0n;
    },
  };
}
