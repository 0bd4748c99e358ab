import type { Sandbox, WorkspaceName } from '@torpor/contracts';
import { sql, type Kysely, type Selectable } from 'kysely';
import type { Sealing } from '../sealing.ts';
import type { SnapshotBook, SnapshotRecord } from '../store.ts';
import { openEnv } from './env.ts';
import type { Tables } from './tables.ts';

export function pgSnapshotBook(db: Kysely<Tables>, sealing: Sealing): SnapshotBook {
  const found = (workspace: WorkspaceName, id: string) =>
    db.selectFrom('snapshots').selectAll().where('workspace', '=', workspace).where('id', '=', id).where(IS_THERE);
  return {
    put: async ({ id, name, atMs, bytes, by, sandbox }) => {
      const { rows } = await sql`
        insert into snapshots (id, workspace, instance_id, name, sandbox, env_sealed, at_ms, bytes, made_by)
        select ${id}, workspace, instance_id, ${name ?? null}, ${JSON.stringify(sandbox)}::jsonb || jsonb_build_object('nodeId', node_id), env_sealed,
          ${atMs}::double precision, ${bytes ?? null}::double precision, ${by ?? null}
        from sandboxes where instance_id = ${sandbox.instanceId} and phase = 'ready'
        on conflict (id) do update set name = excluded.name returning 1`.execute(db);
      return rows.length > 0;
    },
    find: async (workspace, id) => {
      const row = await found(workspace, id).executeTakeFirst();
      return row && recordOf(row);
    },
    envOf: async (workspace, id) => {
      const row = await found(workspace, id).executeTakeFirst();
      if (!row) return undefined;
      const { name } = recordOf(row).sandbox;
      return openEnv(sealing, { workspace, name, env_sealed: row.env_sealed });
    },
    drop: async (workspace, id) => {
      const gone = db.deleteFrom('snapshots').where('workspace', '=', workspace).where('id', '=', id);
      const row = await gone.returningAll().executeTakeFirst();
      return row && recordOf(row);
    },
    keptOn: async (nodeId) => {
      const kept = db.selectFrom('snapshots').where('kept_since_ms', 'is not', null);
      const { count } = await kept
        .where(sql`sandbox->>'nodeId'`, '=', nodeId)
        .select(sql<number>`count(*)::int`.as('count'))
        .executeTakeFirstOrThrow();
      return count;
    },
  };
}

export async function listSnapshotRecords(db: Kysely<Tables>, workspace: WorkspaceName): Promise<SnapshotRecord[]> {
  const all = db.selectFrom('snapshots').selectAll().where('workspace', '=', workspace).where(IS_THERE);
  return (await all.orderBy('at_ms').orderBy('id').execute()).map(recordOf);
}

/** Those of a sandbox end with it, unless it was ended with the wish to keep them. */
const IS_THERE = sql<boolean>`(kept_since_ms is not null or exists (
  select from sandboxes where sandboxes.instance_id = snapshots.instance_id and phase <> 'terminated'))`;

function recordOf(row: Selectable<Tables['snapshots']>): SnapshotRecord {
  return {
    id: row.id,
    ...(row.name === null ? {} : { name: row.name }),
    atMs: row.at_ms,
    ...(row.bytes === null ? {} : { bytes: row.bytes }),
    ...(row.made_by === null ? {} : { by: row.made_by }),
    sandbox: row.sandbox as Sandbox, // parsed before it was written
    ...(row.kept_since_ms === null ? {} : { keptSinceMs: row.kept_since_ms }),
  };
}
