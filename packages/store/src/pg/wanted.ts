import type { NodeId, Sandbox, SandboxName, WorkspaceName } from '@torpor/contracts';
import { sql, type Kysely, type RawBuilder } from 'kysely';
import type { Sealing } from '../sealing.ts';
import type { Incarnation, SandboxChange, Successor, Wanted } from '../store.ts';
import { openEnv, sealEnv } from './env.ts';
import { endingOf, holdingOf, sandboxOf, type SandboxRow } from './rows.ts';
import type { Tables } from './tables.ts';

/** Each change is one statement, and so one round trip and one commit: what it unwants is written among the endings by the same statement. */
export function pgWanted(db: Kysely<Tables>, sealing: Sealing): Wanted {
  const one = async (statement: RawBuilder<SandboxRow>): Promise<Sandbox | undefined> => {
    const row = (await statement.execute(db)).rows[0];
    return row && sandboxOf(row);
  };
  const named = (workspace: WorkspaceName, name: SandboxName) =>
    db.selectFrom('sandboxes').selectAll().where('workspace', '=', workspace).where('name', '=', name);

  return {
    insert: async (sandbox, env) => {
      // Twice at most: the one that took the name may be gone by the time we look at it.
      for (let attempt = 0; attempt < 3; attempt++) {
        const inserted = await db
          .insertInto('sandboxes')
          .values(newRow(sandbox, sealEnv(sealing, sandbox, env)))
          .onConflict((taken) =>
            taken.columns(['workspace', 'name']).where('phase', '<>', sql.lit('terminated')).doNothing(),
          )
          .returning('sequence')
          .executeTakeFirst();
        if (inserted) return { kind: 'inserted' };
        const there = await named(sandbox.workspace, sandbox.name)
          .where('phase', '<>', sql.lit('terminated'))
          .executeTakeFirst();
        if (there) return { kind: 'taken', sandbox: sandboxOf(there) };
      }
      throw new Error(`the name "${sandbox.name}" is taken and freed again faster than it can be had`);
    },
    living: async (workspace, name) => {
      const row = await named(workspace, name).where(IS_LIVING).executeTakeFirst();
      return row && sandboxOf(row);
    },
    becameReady: (who, atMs) =>
      one(sql`
        update sandboxes set phase = 'ready', updated_at_ms = ${atMs}, first_ready_at_ms = coalesce(first_ready_at_ms, ${atMs}), last_used_at_ms = greatest(last_used_at_ms, ${atMs})
        where ${isThis(who)} and phase = 'creating' returning *`),
    // The row is locked first, as a move locks it: what the second statement sees of moves and endings is so when it commits.
    raise: (who, { generation, atMs }) =>
      db.transaction().execute(async (tx) => {
        await sql`select from sandboxes where ${isThis(who)} for update`.execute(tx);
        const { rows } = await sql<SandboxRow>`
          update sandboxes set updated_at_ms = ${atMs}, generation = greatest(${generation}::int,
            (select max(endings.generation) + 1 from endings where endings.instance_id = sandboxes.instance_id))
          where ${isThis(who)} and phase = 'ready' and generation < ${generation}
            and not exists (select from moves where moves.instance_id = sandboxes.instance_id)
          returning *`.execute(tx);
        return rows[0] && sandboxOf(rows[0]);
      }),
    supersede: (who, next) => supersede(db, sealing, who, next),
    abandon: async (who, { reason, atMs }) => {
      const gone = await one(sql`
        with changed as (delete from sandboxes where ${isThis(who)} and phase = 'creating' and first_ready_at_ms is null returning *),
        ${writeEnding('changed', reason, atMs)} select * from changed`);
      return gone !== undefined;
    },
    fail: (who, { reason, atMs, from }) =>
      one(sql`
        with changed as (
          update sandboxes set phase = 'failed', reason = ${reason}, updated_at_ms = ${atMs}
          where ${isThis(who)} and ${from ? sql`phase = ${sql.lit(from)}` : IS_LIVING} returning *),
        ${writeEnding('changed', reason, atMs)} select * from changed`),
    failKept: (who, { reason, atMs }) =>
      one(sql`
        update sandboxes set phase = 'failed', reason = ${reason}, updated_at_ms = ${atMs}
        where ${isThis(who)} and phase = 'ready' returning *`),
    terminate: (workspace, name, { reason, atMs, who, keepSnapshots }) =>
      one(sql`
        with changed as (
          update sandboxes set phase = 'terminated', reason = ${reason}, updated_at_ms = ${atMs}, terminated_at_ms = ${atMs}
          where workspace = ${workspace} and name = ${name} and phase <> 'terminated' ${who ? sql`and ${isThis(who)}` : sql``}
          returning *),
        dropped as (delete from previews using changed
          where previews.workspace = changed.workspace and previews.sandbox = changed.name),
        ${keepSnapshotsOf('changed', atMs, keepSnapshots === true)},
        ${writeEnding('changed', reason, atMs, KEPT)} select * from changed`),
    revise: async (workspace, name, change, atMs) => {
      const row = await db
        .updateTable('sandboxes')
        .set({ ...changeOf(change), updated_at_ms: atMs })
        .where('workspace', '=', workspace)
        .where('name', '=', name)
        .where(IS_LIVING)
        .returningAll()
        .executeTakeFirst();
      return row && sandboxOf(row);
    },
    noteUse: async (uses) => {
      if (uses.length === 0) return;
      await sql`
        update sandboxes set last_used_at_ms = greatest(last_used_at_ms, use.at_ms)
        from unnest(${uses.map((use) => use.instanceId)}::text[], ${uses.map((use) => use.generation)}::int[],
          ${uses.map((use) => use.lastUsedAtMs)}::double precision[]) as use (instance_id, generation, at_ms)
        where sandboxes.instance_id = use.instance_id and sandboxes.generation = use.generation
          and phase <> 'terminated' and last_used_at_ms < use.at_ms`.execute(db);
    },
    onNode: async (nodeId) => {
      const rows = await db
        .selectFrom('sandboxes')
        .select([
          'instance_id',
          'generation',
          'node_id',
          'workspace',
          'name',
          'phase',
          'idle',
          'expiry',
          'last_used_at_ms',
        ])
        .select(sql<number>`(shape->>'memoryMib')::float8`.as('memory_mib'))
        .select(EFFECTIVE_BUDGET.as('wake_budget'))
        .where('node_id', '=', nodeId)
        .where(sql<boolean>`(${IS_LIVING} or ${IS_KEPT})`)
        .execute();
      return rows.map(holdingOf);
    },
    expiring: async () =>
      (
        await db
          .selectFrom('sandboxes')
          .selectAll()
          .where(sql<boolean>`phase in ('ready', 'failed') and expiry <> '{}'::jsonb`)
          .execute()
      ).map(sandboxOf),
    stuckCreating: async (beforeMs) => {
      const stuck = db.selectFrom('sandboxes').selectAll().where('phase', '=', sql.lit('creating'));
      const rows = await stuck.where('updated_at_ms', '<', beforeMs).execute();
      return rows.map((row) => ({ sandbox: sandboxOf(row), wasReady: row.first_ready_at_ms !== null }));
    },
    envOf: async (who) => {
      const row = await db
        .selectFrom('sandboxes')
        .select(['workspace', 'name', 'env_sealed'])
        .where(isThis(who))
        .executeTakeFirst();
      return row && openEnv(sealing, row);
    },
    load: async () => {
      const rows = await db
        .selectFrom('sandboxes')
        .select([
          'node_id',
          sql<number>`count(*)`.as('living'),
          sql<number>`sum((shape->>'memoryMib')::float8)`.as('memory_mib'),
        ])
        .where(IS_LIVING)
        .groupBy('node_id')
        .execute();
      return rows.map((row) => ({ nodeId: row.node_id as NodeId, living: row.living, memoryMib: row.memory_mib })); // parsed before it was written
    },
    endings: async ({ nodeId, instanceIds }) => {
      let found = db.selectFrom('endings').selectAll();
      if (nodeId !== undefined) found = found.where('node_id', '=', nodeId);
      found = instanceIds
        ? found.where(sql<boolean>`instance_id = any(${[...instanceIds]}::text[])`)
        : found.where('ended_at_ms', 'is', null);
      return (await found.execute()).map(endingOf);
    },
    ended: async (who, atMs) => {
      await db
        .updateTable('endings')
        .set({ ended_at_ms: atMs })
        .where(isThis(who))
        .where('ended_at_ms', 'is', null)
        .execute();
    },
    sweep: async ({ nowMs, endedBeforeMs }) => {
      const swept = await Promise.all([
        db
          .deleteFrom('sandboxes')
          .where('phase', '=', sql.lit('terminated'))
          .where(sql<boolean>`terminated_at_ms + terminated_retention_ms <= ${nowMs}`)
          .executeTakeFirst(),
        db
          .deleteFrom('snapshots')
          .where('kept_since_ms', 'is', null)
          .where(
            sql<boolean>`not exists (select from sandboxes where sandboxes.instance_id = snapshots.instance_id and phase <> 'terminated')`,
          )
          .executeTakeFirst(),
        db.deleteFrom('endings').where('ended_at_ms', '<', endedBeforeMs).executeTakeFirst(),
        db
          .deleteFrom('idempotency')
          .where(sql<boolean>`case when answer is null then claim_until_ms else expires_at_ms end <= ${nowMs}`)
          .executeTakeFirst(),
      ]);
      return swept.reduce((sum, { numDeletedRows }) => sum + Number(numDeletedRows), 0);
    },
  };
}

const EFFECTIVE_BUDGET = sql<SandboxRow['wake_budget']>`coalesce(sandboxes.wake_budget,
  (select workspaces.wake_budget from workspaces where workspaces.name = sandboxes.workspace))`;
const IS_LIVING = sql<boolean>`phase in ('creating', 'ready')`;
/** Failed, with files that its node keeps: nobody has said that it must end. */
const IS_KEPT = sql<boolean>`(phase = 'failed' and not exists (select from endings
  where endings.instance_id = sandboxes.instance_id and endings.generation = sandboxes.generation))`;

function isThis(who: Incarnation): RawBuilder<boolean> {
  return sql`(instance_id = ${who.instanceId} and generation = ${who.generation})`;
}

/** A clause that writes what the rows of the clause `from` name as to be ended. A failed sandbox that is terminated may have its ending already. */
function writeEnding(
  from: 'changed' | 'before',
  reason: string,
  sinceMs: number,
  keep = sql`'{}'::text[]`,
): RawBuilder<unknown> {
  return sql`unwanted as (
    insert into endings (instance_id, generation, node_id, workspace, reason, since_ms, keep)
    select instance_id, generation, node_id, workspace, ${reason}::text, ${sinceMs}::double precision, ${keep} from ${sql.ref(from)}
    on conflict do nothing)`;
}

const KEPT = sql<string[]>`array(select id from kept order by id)`;

/** A clause, `kept`, that lets the snapshots of what is to be ended outlive it, unless its node has been told to end it wholly already. */
function keepSnapshotsOf(ended: 'changed' | 'before', sinceMs: number, isAsked = true): RawBuilder<unknown> {
  const from = sql.ref(ended);
  return sql`kept as (
    update snapshots set kept_since_ms = ${sinceMs} from ${from}
    where ${isAsked} and snapshots.instance_id = ${from}.instance_id and not exists (
      select from endings where endings.instance_id = ${from}.instance_id and endings.generation = ${from}.generation)
    returning snapshots.id)`;
}

async function supersede(db: Kysely<Tables>, sealing: Sealing, who: Incarnation, next: Successor) {
  const { env } = next;
  const at =
    env && (await db.selectFrom('sandboxes').select(['workspace', 'name']).where(isThis(who)).executeTakeFirst());
  if (env && !at) return undefined;
  const envChange =
    env && at
      ? sql`, env_sealed = ${sealEnv(sealing, at, env)}, env_names = ${Object.keys(env).sort()}::text[]`
      : sql``;
  const { rows } = await sql<SandboxRow>`
    with before as (select * from sandboxes where ${isThis(who)} and phase = ${sql.lit(next.from)} for update),
    changed as (
      update sandboxes set instance_id = ${next.instanceId}, generation = ${next.generation}, node_id = ${next.nodeId},
        phase = 'creating', origin = null, updated_at_ms = ${next.atMs} ${envChange}
      from before where sandboxes.sequence = before.sequence returning sandboxes.*),
    carried as (
      update volumes set instance_id = ${next.instanceId}, generation = volumes.generation + 1, attachment_state = 'attaching', updated_at_ms = ${next.atMs}
      from before where volumes.instance_id = before.instance_id),
    ${keepSnapshotsOf('before', next.atMs)},
    ${writeEnding('before', next.reason, next.atMs, KEPT)} select * from changed`.execute(db);
  return rows[0] && sandboxOf(rows[0]);
}

function newRow(sandbox: Sandbox, envSealed: string) {
  return {
    instance_id: sandbox.instanceId,
    workspace: sandbox.workspace,
    name: sandbox.name,
    generation: sandbox.generation,
    node_id: sandbox.nodeId,
    phase: sandbox.phase,
    reason: sandbox.reason ?? null,
    display_name: sandbox.displayName ?? null,
    external_id: sandbox.externalId ?? null,
    labels: JSON.stringify(sandbox.labels),
    origin: sandbox.origin ? JSON.stringify(sandbox.origin) : null,
    template: sandbox.template,
    image: sandbox.image,
    shape: JSON.stringify(sandbox.shape),
    ports: JSON.stringify(sandbox.ports),
    env_names: [...sandbox.envNames],
    env_sealed: envSealed,
    idle: JSON.stringify(sandbox.idle),
    snapshot_limits: sandbox.snapshotLimits ? JSON.stringify(sandbox.snapshotLimits) : null,
    wake_budget: sandbox.wakeBudget ? JSON.stringify(sandbox.wakeBudget) : null,
    expiry: JSON.stringify(sandbox.expiry),
    terminated_retention_ms: sandbox.terminatedRetentionMs,
    extra: JSON.stringify(sandbox.extra),
    created_at_ms: sandbox.createdAtMs,
    updated_at_ms: sandbox.updatedAtMs,
    last_used_at_ms: sandbox.lastUsedAtMs,
    first_ready_at_ms: sandbox.phase === 'ready' ? sandbox.updatedAtMs : null,
    terminated_at_ms: sandbox.terminatedAtMs ?? null,
    created_by: sandbox.createdBy,
  };
}

function changeOf(change: SandboxChange) {
  return {
    ...(change.labels === undefined ? {} : { labels: JSON.stringify(change.labels) }),
    ...(change.displayName === undefined ? {} : { display_name: change.displayName }),
    ...(change.externalId === undefined ? {} : { external_id: change.externalId }),
    ...(change.idle === undefined ? {} : { idle: JSON.stringify(change.idle) }),
    ...(change.snapshotLimits === undefined ? {} : { snapshot_limits: JSON.stringify(change.snapshotLimits) }),
    ...(change.wakeBudget === undefined ? {} : { wake_budget: change.wakeBudget && JSON.stringify(change.wakeBudget) }),
    ...(change.expiry === undefined ? {} : { expiry: JSON.stringify(change.expiry) }),
    ...(change.terminatedRetentionMs === undefined ? {} : { terminated_retention_ms: change.terminatedRetentionMs }),
    ...(change.ports === undefined ? {} : { ports: JSON.stringify(change.ports) }),
    ...(change.extra === undefined ? {} : { extra: JSON.stringify(change.extra) }),
  };
}
