import type { NodeId, Route, Sandbox, WorkspaceName } from '@torpor/contracts';
import { sql, type Kysely, type RawBuilder } from 'kysely';
import { planPage, valueOf, writeCursor } from '../page.ts';
import type { Sealing } from '../sealing.ts';
import type { SandboxOrder, SandboxPage, SandboxQuery, SandboxShelf } from '../store.ts';
import { openEnv } from './env.ts';
import { sandboxOf, type SandboxRow } from './rows.ts';
import type { Tables } from './tables.ts';

export function pgSandboxShelf(db: Kysely<Tables>, sealing: Sealing, workspace: WorkspaceName): SandboxShelf {
  return {
    get: async (name, nowMs) => {
      const row = await db
        .selectFrom('sandboxes')
        .selectAll()
        .where('workspace', '=', workspace)
        .where('name', '=', name)
        .where(isRemembered(nowMs))
        .orderBy(sql`phase = 'terminated'`)
        .orderBy('sequence', 'desc')
        .limit(1)
        .executeTakeFirst();
      return row && sandboxOf(row);
    },
    byExternalId: async (externalId) => {
      const row = await db
        .selectFrom('sandboxes')
        .selectAll()
        .where('workspace', '=', workspace)
        .where('external_id', '=', externalId)
        .where('phase', '<>', sql.lit('terminated'))
        .orderBy('sequence', 'desc')
        .limit(1)
        .executeTakeFirst();
      return row && sandboxOf(row);
    },
    list: (query) => list(db, workspace, query),
    routeOf: async (name) => {
      const row = await db
        .selectFrom('sandboxes')
        .innerJoin('nodes', 'nodes.id', 'sandboxes.node_id')
        .selectAll('sandboxes')
        .select('nodes.url as node_url')
        .where('workspace', '=', workspace)
        .where('name', '=', name)
        .where('phase', '=', sql.lit('ready'))
        .executeTakeFirst();
      return row && wayOf(row);
    },
    forksOf: async (instanceId) => {
      const forks = db.selectFrom('sandboxes').selectAll().where('workspace', '=', workspace);
      const made = forks.where(sql<boolean>`origin->>'instanceId' = ${instanceId}`);
      return (await made.orderBy('sequence').execute()).map(sandboxOf);
    },
    env: async (instanceId) => {
      const row = await db
        .selectFrom('sandboxes')
        .select(['env_sealed', 'workspace', 'name'])
        .where('workspace', '=', workspace)
        .where('instance_id', '=', instanceId)
        .executeTakeFirst();
      return row && openEnv(sealing, row);
    },
  };
}

export function wayOf(row: SandboxRow & { node_url: string }): { sandbox: Sandbox; route: Route } {
  const sandbox = sandboxOf(row);
  const { instanceId, generation } = sandbox;
  return { sandbox, route: { instanceId, generation, nodeId: row.node_id as NodeId, nodeUrl: row.node_url } }; // parsed before it was written
}

async function list(db: Kysely<Tables>, workspace: WorkspaceName, query: SandboxQuery): Promise<SandboxPage> {
  const plan = planPage(workspace, query);
  const found = matching(db, workspace, query);
  const down = (plan.direction === 'desc') !== plan.fromEnd;
  const column = COLUMNS[plan.by];
  let rows = found
    .selectAll()
    .orderBy(column, down ? 'desc' : 'asc')
    .orderBy('sequence', down ? 'desc' : 'asc');
  if (plan.after) {
    const { value, sequence } = plan.after;
    rows = rows.where(sql<boolean>`(${column}, sequence) ${sql.raw(down ? '<' : '>')} (${value}, ${sequence})`);
  }
  const [taken, count] = await Promise.all([
    rows.limit(plan.limit + 1).execute(),
    found.select(sql<number>`count(*)`.as('total')).executeTakeFirstOrThrow(),
  ]);
  const cut = taken.slice(0, plan.limit);
  if (plan.fromEnd) cut.reverse();
  const items = cut.map(sandboxOf);
  const last = items.at(-1);
  const lastRow = cut.at(-1);
  const goesOn = !plan.fromEnd && taken.length > plan.limit && last && lastRow;
  const mark = goesOn ? { value: valueOf(last, plan.by), sequence: lastRow.sequence } : undefined;
  return { items, nextCursor: mark && writeCursor(workspace, query, mark), total: count.total };
}

const COLUMNS: Record<SandboxOrder, RawBuilder<string | number>> = {
  createdAt: sql`created_at_ms`,
  updatedAt: sql`updated_at_ms`,
  lastUsedAt: sql`last_used_at_ms`,
  // The order of bytes, so that every database and `memoryStore` agree, whatever the locale.
  name: sql`(name collate "C")`,
};

function matching(db: Kysely<Tables>, workspace: WorkspaceName, query: SandboxQuery) {
  let found = db.selectFrom('sandboxes').where('workspace', '=', workspace);
  found = query.showTerminated
    ? found.where(isRemembered(query.nowMs))
    : found.where('phase', '<>', sql.lit('terminated'));
  if (query.phases) found = found.where(sql<boolean>`phase = any(${[...query.phases]}::text[])`);
  if (query.externalId !== undefined) found = found.where('external_id', '=', query.externalId);
  if (query.q) found = found.where(contains(query.q));
  return found;
}

function contains(part: string): RawBuilder<boolean> {
  return sql`(
    strpos(lower(concat_ws(chr(1), name, display_name, external_id)), lower(${part})) > 0
    or exists (select 1 from jsonb_each_text(labels) as label where strpos(lower(label.value), lower(${part})) > 0))`;
}

function isRemembered(nowMs: number): RawBuilder<boolean> {
  return sql`(phase <> 'terminated' or terminated_at_ms + terminated_retention_ms > ${nowMs})`;
}
