/**
 * Where an instance goes. A *candidate* is a node that lives, has the template and has room; among candidates the one that answers quickest wins
 * (a pooled instance is waiting there), then the one with the most memory free, so that load spreads.
 *
 * Memory is promised beyond what is there, because sleepers use little of what they may: *promised* is the sum of all limits on the node, and may
 * reach `overcommit` times its memory. What protects the node is the other half of the rule: real free memory, less a reserve, must hold what a
 * fresh instance really takes.
 */
import type { Isolation, NodeId, Shape } from '@torpor/contracts';

/** A node as it was heard last, less what was placed on it since. */
export interface FleetNode {
  readonly id: NodeId;
  readonly isolation: Isolation;
  readonly templates: readonly string[];
  readonly memoryMib: number;
  readonly memoryFreeMib: number;
  readonly diskFreeMib: number;
  readonly slotsFree: number;
  readonly pool: readonly { readonly template: string; readonly shape: Shape; readonly ready: number }[];
  /** Sum of the memory limits of all that lives on it. */
  readonly promisedMib: number;
  readonly heardAtMs: number;
  /** 0: it needs no lease, and is alive while it is heard. */
  readonly leaseUntilMs: number;
}

export interface PlacementAsk {
  readonly template: string;
  readonly shape: Shape;
  readonly nowMs: number;
  /** Absent: any that its operator runs. */
  readonly isolation?: readonly Isolation[];
  /** Nodes that have just refused it or failed at it. */
  readonly avoid?: readonly NodeId[];
}

export interface PlacementRules {
  readonly overcommit: number;
  /** Kept free on every node; at least this share of its memory, too. */
  readonly memoryReserveMib: number;
  readonly memoryReserveShare: number;
  /** What a fresh instance takes before it runs anything of the tenant's. */
  readonly freshInstanceMib: number;
  readonly diskReserveMib: number;
  /** A node without a lease that was not heard of for this long is not asked. */
  readonly silentMs: number;
}

export const PLACEMENT_RULES: PlacementRules = {
  overcommit: 64,
  memoryReserveMib: 256,
  memoryReserveShare: 0.03,
  freshInstanceMib: 96,
  diskReserveMib: 256,
  silentMs: 20_000,
};

export type Placement =
  | { readonly kind: 'placed'; readonly nodeId: NodeId; readonly pooled: boolean }
  | { readonly kind: 'refused'; readonly why: RefusalCause; readonly reason: string; readonly retryAfterS: number };

/** `no_template` will not pass by waiting; the others may. */
export type RefusalCause = 'no_node' | 'no_template' | 'no_room';

export function place(
  fleet: readonly FleetNode[],
  ask: PlacementAsk,
  rules: PlacementRules = PLACEMENT_RULES,
): Placement {
  const alive = fleet.filter((node) => isAlive(node, ask.nowMs, rules));
  if (alive.length === 0) return refused('no_node', 'no node is alive at present', 5);
  const suited = alive.filter((node) => node.templates.includes(ask.template) && allows(ask.isolation, node.isolation));
  if (suited.length === 0) return refused('no_template', whyUnsuited(alive, ask), 30);
  const candidates = suited.filter((node) => !ask.avoid?.includes(node.id) && hasRoom(node, ask, rules));
  const best = candidates.sort((a, b) => preference(a, b, ask))[0];
  if (!best) return refused('no_room', 'every node that could run it is full', 5);
  return { kind: 'placed', nodeId: best.id, pooled: isPooled(best, ask) };
}

export function isAlive(
  node: Pick<FleetNode, 'leaseUntilMs' | 'heardAtMs'>,
  nowMs: number,
  rules: PlacementRules = PLACEMENT_RULES,
): boolean {
  return node.leaseUntilMs === 0 ? nowMs - node.heardAtMs < rules.silentMs : node.leaseUntilMs > nowMs;
}

function hasRoom(node: FleetNode, ask: PlacementAsk, rules: PlacementRules): boolean {
  const promised = node.promisedMib + ask.shape.memoryMib <= node.memoryMib * rules.overcommit;
  const fits = ask.shape.memoryMib <= node.memoryMib;
  // A pooled instance has its memory, its slot and its disk already.
  return promised && fits && (isPooled(node, ask) || hasRoomForFresh(node, ask, rules));
}

function hasRoomForFresh(node: FleetNode, ask: PlacementAsk, rules: PlacementRules): boolean {
  const reserve = Math.max(rules.memoryReserveMib, node.memoryMib * rules.memoryReserveShare);
  const memory = node.memoryFreeMib - reserve >= Math.min(ask.shape.memoryMib, rules.freshInstanceMib);
  return memory && node.slotsFree > 0 && node.diskFreeMib >= Math.min(ask.shape.diskMib, rules.diskReserveMib);
}

/** Less than 0: `a` is asked first. */
function preference(a: FleetNode, b: FleetNode, ask: PlacementAsk): number {
  return (
    Number(isPooled(b, ask)) - Number(isPooled(a, ask)) ||
    b.memoryFreeMib / b.memoryMib - a.memoryFreeMib / a.memoryMib ||
    a.promisedMib - b.promisedMib ||
    (a.id < b.id ? -1 : 1)
  );
}

function isPooled(node: FleetNode, ask: PlacementAsk): boolean {
  return node.pool.some(
    (pool) => pool.ready > 0 && pool.template === ask.template && isSameShape(pool.shape, ask.shape),
  );
}

export function isSameShape(a: Shape, b: Shape): boolean {
  return a.memoryMib === b.memoryMib && a.cpus === b.cpus && a.diskMib === b.diskMib && a.pids === b.pids;
}

function allows(wanted: readonly Isolation[] | undefined, isolation: Isolation): boolean {
  return wanted === undefined || wanted.includes(isolation);
}

function whyUnsuited(alive: readonly FleetNode[], ask: PlacementAsk): string {
  const known = [...new Set(alive.flatMap((node) => node.templates))].sort();
  if (known.includes(ask.template))
    return `no node isolates "${ask.template}" as asked (${ask.isolation?.join(' or ')})`;
  return `no node has the template "${ask.template}"; there is ${known.map((name) => `"${name}"`).join(', ') || 'none at all'}`;
}

function refused(why: RefusalCause, reason: string, retryAfterS: number): Placement {
  return { kind: 'refused', why, reason, retryAfterS };
}

/** The node after one more instance was placed on it: so that many asks between two heartbeats spread, too. */
export function withPlaced(
  node: FleetNode,
  ask: Pick<PlacementAsk, 'template' | 'shape' | 'nowMs'>,
  rules = PLACEMENT_RULES,
): FleetNode {
  const promisedMib = node.promisedMib + ask.shape.memoryMib;
  if (!isPooled(node, ask)) {
    const memoryFreeMib = node.memoryFreeMib - Math.min(ask.shape.memoryMib, rules.freshInstanceMib);
    return { ...node, promisedMib, memoryFreeMib, slotsFree: node.slotsFree - 1 };
  }
  const pool = node.pool.map((one) =>
    one.template === ask.template && isSameShape(one.shape, ask.shape) ? { ...one, ready: one.ready - 1 } : one,
  );
  return { ...node, promisedMib, pool };
}
