/**
 * Where an instance goes. A *candidate* is a node that lives, has the template and has room (`room.ts`); among candidates the one that answers quickest
 * wins (a pooled instance is waiting there), then the one with the most memory free, so that load spreads.
 */
import type { Isolation, NodeId } from '@torpor/contracts';
import {
  isPooled,
  isSameShape,
  PLACEMENT_RULES,
  type FleetNode,
  type PlacementAsk,
  type PlacementRules,
} from './fleet-node.ts';
import { couldHold, inWords, lacks, whyNoneCould } from './room.ts';

export type Placement =
  | { readonly kind: 'placed'; readonly nodeId: NodeId; readonly pooled: boolean }
  | { readonly kind: 'refused'; readonly why: RefusalCause; readonly reason: string; readonly retryAfterS: number };

/** `no_template` and `too_large` will not pass by waiting; the others may. */
export type RefusalCause = 'no_node' | 'no_template' | 'too_large' | 'no_room';

export function place(
  fleet: readonly FleetNode[],
  ask: PlacementAsk,
  rules: PlacementRules = PLACEMENT_RULES,
): Placement {
  const living = fleet.filter((node) => isAlive(node, ask.nowMs, rules));
  if (living.length === 0) return refused('no_node', 'no node is alive at present', 5);
  const alive = living.filter((node) => node.isDraining !== true);
  if (alive.length === 0) return refused('no_node', 'every node that is alive is being drained', 30);
  const suited = alive.filter((node) => suits(node, ask));
  if (suited.length === 0) return refused('no_template', whyUnsuited(alive, ask), 30);
  // A node that is silent may come back, so that what only it could hold is worth another try.
  const known = fleet.filter((node) => suits(node, ask) && ask.nowMs - node.heardAtMs < rules.goneMs);
  if (!known.some((node) => couldHold(node, ask.shape, rules)))
    return refused('too_large', whyNoneCould(known, ask.shape, rules), 0);
  const asked = suited
    .filter((node) => !ask.avoid?.includes(node.id))
    .map((node) => ({ node, lacking: lacks(node, ask, rules) }))
    .sort((a, b) => a.lacking.length - b.lacking.length || preference(a.node, b.node, ask));
  const best = asked[0];
  if (!best) return refused('no_room', 'no node has room for it: each that could run it has just refused it', 5);
  if (best.lacking.length > 0)
    return refused('no_room', `no node has room for it: ${inWords(best.node, best.lacking)}`, 5);
  return { kind: 'placed', nodeId: best.node.id, pooled: isPooled(best.node, ask) };
}

export function isAlive(
  node: Pick<FleetNode, 'leaseUntilMs' | 'heardAtMs'>,
  nowMs: number,
  rules: PlacementRules = PLACEMENT_RULES,
): boolean {
  return node.leaseUntilMs === 0 ? nowMs - node.heardAtMs < rules.silentMs : node.leaseUntilMs > nowMs;
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

function suits(node: FleetNode, ask: PlacementAsk): boolean {
  return node.templates.includes(ask.template) && allows(ask.isolation, node.isolation);
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
