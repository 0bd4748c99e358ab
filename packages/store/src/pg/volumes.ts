import type { NodeId, Volume, VolumeId, VolumeName, WorkspaceName } from '@torpor/contracts';
import { sql, type Kysely, type RawBuilder, type Selectable } from 'kysely';
import type { VolumeBook, VolumeFence, VolumeShelf } from '../store.ts';
import { volumeOf } from './rows.ts';
import type { Tables, VolumeTable } from './tables.ts';

export function pgVolumeShelf(db: Kysely<Tables>, workspace: WorkspaceName): VolumeShelf {
  const mine = () => db.selectFrom('volumes').selectAll().where('workspace', '=', workspace);
  return {
    list: async () =>
      (
        await mine()
          .orderBy(sql`name collate "C"`)
          .execute()
      ).map(volumeOf),
    get: async (name) => {
      const row = await mine().where('name', '=', name).executeTakeFirst();
      return row && volumeOf(row);
    },
  };
}

/** Each change is one commit, and all but an attach one statement. */
export function pgVolumeBook(db: Kysely<Tables>): VolumeBook {
  const all = async (statement: RawBuilder<Selectable<VolumeTable>>): Promise<Volume[]> =>
    (await statement.execute(db)).rows.map(volumeOf);
  const one = async (statement: RawBuilder<Selectable<VolumeTable>>): Promise<Volume | undefined> =>
    (await all(statement))[0];
  const find = async (workspace: WorkspaceName, name: VolumeName) => {
    const row = await db
      .selectFrom('volumes')
      .selectAll()
      .where('workspace', '=', workspace)
      .where('name', '=', name)
      .executeTakeFirst();
    return row && volumeOf(row);
  };
  return {
    find,
    insert: async (volume) => {
      const made = await db
        .insertInto('volumes')
        .values(newRow(volume))
        .onConflict((taken) => taken.columns(['workspace', 'name']).doNothing())
        .returning('id')
        .executeTakeFirst();
      return made
        ? { kind: 'inserted' }
        : { kind: 'taken', volume: (await find(volume.workspace, volume.name)) ?? volume };
    },
    becameReady: (id, atMs) =>
      one(
        sql`update volumes set phase = 'ready', updated_at_ms = ${atMs} where id = ${id} and phase = 'creating' returning *`,
      ),
    resize: (id, sizeMib, atMs) =>
      one(
        sql`update volumes set size_mib = ${sizeMib}, updated_at_ms = ${atMs} where id = ${id} and phase = 'ready' returning *`,
      ),
    // The sandbox's row is locked first, as a move locks it: no volume comes to one that leaves.
    attach: (id, { instanceId, sandbox, path }, atMs) =>
      db.transaction().execute(async (tx) => {
        await sql`select from sandboxes where instance_id = ${instanceId} for update`.execute(tx);
        const { rows } = await sql<Selectable<VolumeTable>>`
          update volumes set instance_id = ${instanceId}, sandbox = ${sandbox}, path = ${path}, attachment_state = 'attaching',
            generation = generation + 1, updated_at_ms = ${atMs}
          where id = ${id} and phase = 'ready' and kind = 'volume' and instance_id is null
            and not exists (select from moves where moves.instance_id = ${instanceId})
            and not exists (select from sandboxes where sandboxes.instance_id = ${instanceId} and sandboxes.node_id <> volumes.node_id)
          returning *`.execute(tx);
        return rows[0] && volumeOf(rows[0]);
      }),
    attached: (fence, atMs) =>
      one(sql`
        update volumes set attachment_state = 'attached', updated_at_ms = ${atMs}
        where ${isThis(fence)} and attachment_state in ('attaching', 'detaching') returning *`),
    attachedWith: async (instanceId, atMs) => {
      await sql`
        update volumes set phase = 'ready', attachment_state = 'attached', updated_at_ms = ${atMs}
        where instance_id = ${instanceId} and attachment_state = 'attaching'`.execute(db);
    },
    detach: (id, atMs) =>
      one(sql`
        update volumes set attachment_state = 'detaching', generation = generation + 1, updated_at_ms = ${atMs}
        where id = ${id} and instance_id is not null returning *`),
    detached: (fence, atMs) =>
      one(sql`
        update volumes set ${FREE}, is_forks = false, updated_at_ms = ${atMs}
        where ${isThis(fence)} and attachment_state = 'detaching' returning *`),
    release: (instanceId, atMs) =>
      all(sql`
        update volumes set ${FREE}, generation = generation + 1, updated_at_ms = ${atMs},
          phase = case when is_forks then 'deleting' else phase end
        where instance_id = ${instanceId} and ${HAS_ENDED} returning *`),
    beginDelete: (id, atMs) =>
      one(sql`
        update volumes set phase = 'deleting', generation = generation + 1, updated_at_ms = ${atMs}
        where id = ${id} and instance_id is null returning *`),
    remove: async (id) => {
      await sql`delete from volumes where id = ${id} and phase = 'deleting'`.execute(db);
    },
    of: (instanceId) => all(sql`select * from volumes where instance_id = ${instanceId} order by id`),
    unsettled: (beforeMs) =>
      all(sql`
        select * from volumes where updated_at_ms < ${beforeMs}
          and (phase <> 'ready' or attachment_state in ('attaching', 'detaching') or (instance_id is not null and ${HAS_ENDED}))
        order by updated_at_ms, id`),
    metered: async () => {
      const rows = await db
        .selectFrom('volumes')
        .select(['id', 'workspace', 'node_id'])
        .where('phase', '=', sql.lit('ready'))
        .orderBy('id')
        .execute();
      return rows.map(({ id, workspace, node_id }) => ({
        id: id as VolumeId, // this and the brands below were parsed before they were written
        workspace: workspace as WorkspaceName,
        nodeId: node_id as NodeId,
      }));
    },
    promised: async () => {
      const rows = await db
        .selectFrom('volumes')
        .select(['node_id', sql<number>`sum(size_mib)::float8`.as('size_mib')])
        .where('kind', '=', sql.lit('volume'))
        .groupBy('node_id')
        .orderBy('node_id')
        .execute();
      return rows.map((row) => ({ nodeId: row.node_id as NodeId, sizeMib: row.size_mib })); // parsed before it was written
    },
  };
}

const FREE = sql`instance_id = null, sandbox = null, path = null, attachment_state = null`;

/** Nobody wants the instance any more, and its node has confirmed that it cannot run. */
const HAS_ENDED = sql<boolean>`(
  not exists (select from sandboxes where sandboxes.instance_id = volumes.instance_id and phase <> 'terminated')
  and not exists (select from endings where endings.instance_id = volumes.instance_id and ended_at_ms is null))`;

function isThis({ id, generation }: VolumeFence): RawBuilder<boolean> {
  return sql`(id = ${id} and generation = ${generation})`;
}

function newRow(volume: Volume) {
  const { attachment, origin } = volume;
  return {
    id: volume.id,
    workspace: volume.workspace,
    name: volume.name,
    kind: volume.kind,
    size_mib: volume.sizeMib,
    node_id: volume.nodeId,
    generation: volume.generation,
    phase: volume.phase,
    instance_id: attachment?.instanceId ?? null,
    sandbox: attachment?.sandbox ?? null,
    path: attachment?.path ?? null,
    attachment_state: attachment?.state ?? null,
    origin: origin ? JSON.stringify(origin) : null,
    is_forks: volume.isForks ?? false,
    created_at_ms: volume.createdAtMs,
    updated_at_ms: volume.updatedAtMs,
    created_by: volume.createdBy,
  };
}
