import type { InstanceId, NodeId, UsageInterval, WorkspaceName } from '@torpor/contracts';
import { sql, type Kysely } from 'kysely';
import type { Old, UsageBook, UsageSum, UsedStretch } from '../store.ts';
import type { Tables } from './tables.ts';

export function pgUsageBook(db: Kysely<Tables>): UsageBook {
  return {
    book: (nodeId, intervals) => bookUsage(db, nodeId, intervals),
    prune: (old) => pruneUsage(db, old),
  };
}

async function bookUsage(db: Kysely<Tables>, nodeId: NodeId, intervals: readonly UsageInterval[]) {
  if (intervals.length === 0) return { booked: 0, refused: [] };
  const rows = intervals.map((one) => ({
    instance_id: one.instanceId,
    generation: one.generation,
    sequence: one.sequence,
    workspace: one.workspace,
    from_ms: one.fromMs,
    to_ms: one.toMs,
    tier: one.tier,
    cpu_ms: one.cpuMs,
    memory_mib_ms: one.memoryMibMs,
    egress_bytes: one.egressBytes,
    disk_mib: one.diskMib,
    wake: one.wake ?? null,
  }));
  // One parameter however many rows, so that there is one statement to prepare. An incarnation that has moved on is still among the endings;
  // one whose generation was raised may have been metered under the older one.
  const answer = await sql<{ booked: number; refused: InstanceId[] }>`
    with given as (select * from jsonb_populate_recordset(null::usage_intervals, ${JSON.stringify(rows)}::jsonb)),
    judged as (
      select given.*, exists (
        select from sandboxes known where known.instance_id = given.instance_id and known.generation >= given.generation
          and known.node_id = ${nodeId} and known.workspace = given.workspace
      ) or exists (
        select from endings known where known.instance_id = given.instance_id and known.generation >= given.generation
          and known.node_id = ${nodeId} and known.workspace = given.workspace
      ) or exists (
        select from volumes known where known.id = given.instance_id and given.tier = 'volume'
          and known.node_id = ${nodeId} and known.workspace = given.workspace
      ) as lawful from given),
    booked as (
      insert into usage_intervals (instance_id, generation, sequence, workspace, from_ms, to_ms, tier, cpu_ms, memory_mib_ms, egress_bytes, disk_mib, wake)
      select instance_id, generation, sequence, workspace, from_ms, to_ms, tier, cpu_ms, memory_mib_ms, egress_bytes, disk_mib, wake from judged where lawful
      on conflict do nothing returning 1)
    select (select count(*) from booked) as booked,
      array(select distinct instance_id from judged where not lawful) as refused`.execute(db);
  return answer.rows[0] ?? { booked: 0, refused: [] };
}

async function pruneUsage(db: Kysely<Tables>, { beforeMs, limit }: Old): Promise<number> {
  const gone = await sql`
    delete from usage_intervals where ctid in (select ctid from usage_intervals where to_ms < ${beforeMs} limit ${limit})`.execute(
    db,
  );
  return Number(gone.numAffectedRows ?? 0n);
}

export async function sumUsage(
  db: Kysely<Tables>,
  workspace: WorkspaceName,
  span: { fromMs: number; toMs: number },
): Promise<UsageSum[]> {
  const rows = await db
    .selectFrom('usage_intervals')
    .select([
      'instance_id',
      'tier',
      sql<number>`sum(to_ms - from_ms)`.as('span_ms'),
      sql<number>`sum(cpu_ms)`.as('cpu_ms'),
      sql<number>`sum(memory_mib_ms)`.as('memory_mib_ms'),
      sql<number>`sum(egress_bytes)`.as('egress_bytes'),
      sql<number>`sum(disk_mib * (to_ms - from_ms))`.as('disk_mib_ms'),
      sql<number>`count(wake)`.as('wakes'),
      sql<number>`count(*) filter (where wake = 'lost')`.as('wakes_lost'),
    ])
    .where('workspace', '=', workspace)
    .where('from_ms', '>=', span.fromMs)
    .where('from_ms', '<', span.toMs)
    .groupBy(['instance_id', 'tier'])
    .orderBy(sql`(instance_id || '/' || tier) collate "C"`)
    .execute();
  return rows.map((row) => ({
    instanceId: row.instance_id as InstanceId, // parsed before it was written
    tier: row.tier,
    spanMs: row.span_ms,
    cpuMs: row.cpu_ms,
    memoryMibMs: row.memory_mib_ms,
    egressBytes: row.egress_bytes,
    diskMibMs: row.disk_mib_ms,
    wakes: row.wakes,
    wakesLost: row.wakes_lost,
  }));
}

export async function usedStretches(
  db: Kysely<Tables>,
  workspace: WorkspaceName,
  { instanceId, limit }: { instanceId: InstanceId; limit: number },
): Promise<UsedStretch[]> {
  const booked = db
    .selectFrom('usage_intervals')
    .select(['tier', 'from_ms', 'to_ms'])
    .where('workspace', '=', workspace);
  const mine = booked.where('instance_id', '=', instanceId).orderBy('from_ms', 'desc').limit(limit);
  return (await mine.execute()).toReversed().map((row) => ({ tier: row.tier, fromMs: row.from_ms, toMs: row.to_ms }));
}
