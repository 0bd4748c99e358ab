import type { Generation, InstanceId, NodeId, WorkspaceName } from '@torpor/contracts';
import { sql, type Kysely, type Selectable } from 'kysely';
import type { Incarnation, Move, Moves } from '../store.ts';
import { sandboxOf } from './rows.ts';
import type { Tables } from './tables.ts';

/** A change locks the sandbox's row, then that of its move. */
export function pgMoves(db: Kysely<Tables>): Moves {
  const locked = async (tx: Kysely<Tables>, who: Incarnation) => {
    const at = (column: 'sandboxes' | 'moves') =>
      tx
        .selectFrom(column)
        .where('instance_id', '=', who.instanceId)
        .where('generation', '=', who.generation)
        .forUpdate();
    const sandbox = await at('sandboxes').selectAll().where('phase', '=', sql.lit('ready')).executeTakeFirst();
    const move = await at('moves').selectAll().executeTakeFirst();
    return { sandbox, move: move as Selectable<Tables['moves']> | undefined }; // Kysely loses the table's type in `at`
  };
  return {
    begin: (who, { to, reason, atMs }) =>
      db.transaction().execute(async (tx) => {
        const { sandbox, move } = await locked(tx, who);
        if (move) return { kind: 'there', move: moveOf(move) };
        if (!sandbox) return undefined;
        const volume = await tx
          .selectFrom('volumes')
          .select('id')
          .where('instance_id', '=', who.instanceId)
          .executeTakeFirst();
        if (volume) return undefined;
        const ended = await tx
          .selectFrom('endings')
          .select(({ fn }) => fn.max('generation').as('last'))
          .where('instance_id', '=', who.instanceId)
          .executeTakeFirst();
        const row = {
          instance_id: who.instanceId,
          generation: who.generation,
          next_generation: Math.max(who.generation, ended?.last ?? 0) + 1,
          workspace: sandbox.workspace,
          name: sandbox.name,
          from_node: sandbox.node_id,
          to_node: to,
          reason,
          since_ms: atMs,
          cancelled: null,
        };
        await tx.insertInto('moves').values(row).execute();
        return { kind: 'begun', move: moveOf(row) };
      }),
    open: async () => (await db.selectFrom('moves').selectAll().orderBy('since_ms').execute()).map(moveOf),
    commit: (who, atMs) =>
      db.transaction().execute(async (tx) => {
        const { sandbox, move } = await locked(tx, who);
        if (!sandbox || !move || move.cancelled !== null) return undefined;
        await tx.deleteFrom('moves').where('instance_id', '=', who.instanceId).execute();
        await tx
          .insertInto('endings')
          .values({ ...endingOf(move), generation: move.generation, node_id: move.from_node, since_ms: atMs })
          .onConflict((there) => there.doNothing())
          .execute();
        await sql`
          update snapshots set sandbox = sandbox || jsonb_build_object('nodeId', ${move.to_node}::text)
          where instance_id = ${who.instanceId}`.execute(tx);
        const { instance_id, ...row } = await tx
          .updateTable('sandboxes')
          .set({ node_id: move.to_node, generation: move.next_generation, updated_at_ms: atMs })
          .where('sequence', '=', sandbox.sequence)
          .returningAll()
          .executeTakeFirstOrThrow();
        return sandboxOf({ instance_id, ...row });
      }),
    cancel: (who, { reason, atMs }) =>
      db.transaction().execute(async (tx) => {
        const { move } = await locked(tx, who);
        if (!move) return undefined;
        if (move.cancelled === null) {
          await tx.updateTable('moves').set({ cancelled: reason }).where('instance_id', '=', who.instanceId).execute();
          await tx
            .insertInto('endings')
            .values({ ...endingOf(move), generation: move.next_generation, node_id: move.to_node, since_ms: atMs })
            .onConflict((there) => there.doNothing())
            .execute();
        }
        return moveOf({ ...move, cancelled: move.cancelled ?? reason });
      }),
    over: async (who) => {
      await db
        .deleteFrom('moves')
        .where('instance_id', '=', who.instanceId)
        .where('generation', '=', who.generation)
        .where('cancelled', 'is not', null)
        .execute();
    },
  };
}

function endingOf({ instance_id, workspace, reason }: Selectable<Tables['moves']>) {
  return { instance_id, workspace, reason, ended_at_ms: null };
}

function moveOf(row: Selectable<Tables['moves']>): Move {
  return {
    instanceId: row.instance_id as InstanceId, // this and the brands below were parsed before they were written
    generation: row.generation as Generation,
    nextGeneration: row.next_generation as Generation,
    workspace: row.workspace as WorkspaceName,
    name: row.name as Move['name'],
    from: row.from_node as NodeId,
    to: row.to_node as NodeId,
    reason: row.reason,
    sinceMs: row.since_ms,
    ...(row.cancelled === null ? {} : { cancelled: row.cancelled }),
  };
}
