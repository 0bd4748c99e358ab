import type { Generation, InstanceId, Sandbox } from '@torpor/contracts';
import type { Ending, Incarnation, Move, Moves } from '../store.ts';

/** What moves need of the sandboxes' rows. */
export interface Movable {
  ready(who: Incarnation): Sandbox | undefined;
  hasVolumes(instanceId: InstanceId): boolean;
  /** The first generation from that one on that is after all that have ended. */
  unused(instanceId: InstanceId, from: Generation): Generation;
  moveTo(who: Incarnation, to: Pick<Move, 'to' | 'nextGeneration'>, atMs: number): Sandbox;
  mustEnd(ending: Ending): void;
}

export function memoryMoves(sandboxes: Movable, rows: Map<InstanceId, Move>): Moves {
  const find = ({ instanceId, generation }: Incarnation) => {
    const move = rows.get(instanceId);
    return move?.generation === generation ? move : undefined;
  };
  return {
    begin: async (who, { to, reason, atMs }) => {
      const there = find(who);
      if (there) return { kind: 'there', move: there };
      const sandbox = sandboxes.ready(who);
      if (!sandbox || sandboxes.hasVolumes(sandbox.instanceId)) return undefined;
      const { instanceId, generation, workspace, name, nodeId: from } = sandbox;
      const nextGeneration = sandboxes.unused(instanceId, (generation + 1) as Generation); // greater than one
      const move = { instanceId, generation, nextGeneration, workspace, name, from, to, reason, sinceMs: atMs };
      rows.set(instanceId, move);
      return { kind: 'begun', move };
    },
    open: async () => [...rows.values()],
    commit: async (who, atMs) => {
      const move = find(who);
      if (!move || move.cancelled !== undefined || !sandboxes.ready(who)) return undefined;
      rows.delete(move.instanceId);
      const { instanceId, generation, workspace, from: nodeId, reason } = move;
      sandboxes.mustEnd({ instanceId, generation, nodeId, workspace, reason, sinceMs: atMs });
      return sandboxes.moveTo(who, move, atMs);
    },
    cancel: async (who, { reason, atMs }) => {
      const move = find(who);
      if (!move || move.cancelled !== undefined) return move;
      const cancelled = { ...move, cancelled: reason };
      rows.set(move.instanceId, cancelled);
      const { instanceId, nextGeneration: generation, workspace, to: nodeId } = move;
      sandboxes.mustEnd({ instanceId, generation, nodeId, workspace, reason: move.reason, sinceMs: atMs });
      return cancelled;
    },
    over: async (who) => {
      if (find(who)?.cancelled !== undefined) rows.delete(who.instanceId);
    },
  };
}
