/**
 * Where a volume goes. Its size is promised whole: unlike a sandbox's disk, which few fill, a volume is what somebody means to keep. So the sizes of all
 * volumes of a node never exceed what its disks can hold, and what is not there to be written now is refused now.
 */
import type { NodeId } from '@torpor/contracts';
import type { FleetNode } from '../placement/fleet-node.ts';
import { isAlive } from '../placement/place.ts';

export interface VolumeAsk {
  /** What is added: of a volume that grows, the difference. A copy shares what it was made from, and adds nothing yet. */
  readonly moreMib: number;
  readonly isCopy: boolean;
  readonly nowMs: number;
  /** The node that it must be on. */
  readonly only?: NodeId | undefined;
}

export type VolumePlacement =
  | { readonly kind: 'placed'; readonly nodeId: NodeId }
  | { readonly kind: 'refused'; readonly why: 'no_node' | 'no_space'; readonly reason: string };

/** `promisedMib`: what the volumes of a node may take together already. */
export function placeVolume(
  fleet: readonly FleetNode[],
  promisedMib: ReadonlyMap<NodeId, number>,
  ask: VolumeAsk,
): VolumePlacement {
  const there = fleet.filter((node) => ask.only === undefined || node.id === ask.only);
  const alive = there.filter((node) => isAlive(node, ask.nowMs));
  if (alive.length === 0) {
    const which = ask.only === undefined ? 'no node is alive at present' : `the node ${ask.only} that it is on is away`;
    return { kind: 'refused', why: 'no_node', reason: which };
  }
  const rooms = alive
    .map((node) => ({ node, roomMib: roomOf(node, promisedMib.get(node.id) ?? 0, ask) }))
    .sort((a, b) => b.roomMib - a.roomMib || (a.node.id < b.node.id ? -1 : 1));
  const best = rooms[0];
  if (best && best.roomMib >= ask.moreMib) return { kind: 'placed', nodeId: best.node.id };
  const most = Math.max(0, Math.floor(best?.roomMib ?? 0));
  const reason = `${ask.moreMib} MiB more are asked for, and the node with the most room, ${best?.node.id}, has ${most} MiB for volumes`;
  return { kind: 'refused', why: 'no_space', reason };
}

function roomOf(node: FleetNode, promisedMib: number, { isCopy }: VolumeAsk): number {
  const unpromisedMib = (node.diskMib ?? Infinity) - promisedMib;
  return isCopy ? unpromisedMib : Math.min(unpromisedMib, node.diskFreeMib);
}
