import { sql, type Kysely } from 'kysely';

/**
 * What each room's own role may do, where the cluster has these roles (`torpor up` makes them) and we own the tables; elsewhere one role does everything
 * and nothing is granted. All of it is set anew each time, in one commit.
 */
export async function grantRooms(db: Kysely<never>): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const roles = Object.keys(GRANTS);
    const { rows } = await sql<{ applies: boolean }>`
      select pg_get_userbyid(relowner) = current_user
        and (select count(*) from pg_roles where rolname = any(${roles}::text[])) = ${roles.length} as applies
      from pg_class where oid = 'audit_log'::regclass`.execute(tx);
    if (rows[0]?.applies !== true) return;
    await sql`select pg_advisory_xact_lock(${GRANTS_LOCK})`.execute(tx);
    for (const [role, grants] of Object.entries(GRANTS)) {
      await sql`revoke all on all tables in schema public from ${sql.id(role)}`.execute(tx);
      for (const [rights, tables] of grants)
        await sql`grant ${sql.raw(rights)} on ${sql.raw(tables)} to ${sql.id(role)}`.execute(tx);
    }
  });
}

/** Any number that nobody else locks: PostgreSQL fails one of two who change the same rights at once. */
const GRANTS_LOCK = 0x746f_7271;

const MIGRATED = ['select', 'kysely_migration, kysely_migration_lock'] as const;

const GRANTS: Readonly<Record<string, readonly (readonly [rights: string, tables: string])[]>> = {
  torpor_gateway: [
    MIGRATED,
    ['select', 'sandboxes, snapshots, volumes, nodes, usage_intervals, audit_anchor'],
    // To lock a sandbox's row while a preview is made one must have the right to change something of it: this column takes no value of ours.
    ['update (sequence)', 'sandboxes'],
    ['select, insert', 'workspaces, audit_log'],
    ['update (wake_budget)', 'workspaces'],
    ['select, insert, update', 'api_keys'],
    ['select, insert, update, delete', 'previews, preview_tokens, secrets, idempotency'],
  ],
  torpor_scheduler: [
    MIGRATED,
    ['select, insert, update, delete', 'sandboxes, endings, snapshots, moves, volumes'],
    ['select, insert, update', 'nodes, audit_anchor'],
    ['select, insert, delete', 'usage_intervals'],
    ['select', 'workspaces'],
    ['select, delete', 'audit_log, previews, idempotency'],
  ],
};
