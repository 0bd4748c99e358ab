/**
 * What a node lacks for an ask, with the figures that say so.
 *
 * Memory is promised beyond what is there, because sleepers use little of what they may: *promised* is the sum of all limits on the node, and may
 * reach `overcommit` times its memory. What protects the node is the other half of the rule: real free memory, less a reserve, must hold what a
 * fresh instance really takes.
 */
import type { Shape } from '@torpor/contracts';
import { isPooled, type FleetNode, type PlacementAsk, type PlacementRules } from './fleet-node.ts';

export type Lack =
  | { readonly kind: 'memory' | 'disk'; readonly freeMib: number; readonly neededMib: number }
  | { readonly kind: 'promise'; readonly promisedMib: number; readonly mostMib: number; readonly neededMib: number }
  | { readonly kind: 'size'; readonly memoryMib: number; readonly neededMib: number }
  | { readonly kind: 'disk size'; readonly diskMib: number; readonly neededMib: number }
  | { readonly kind: 'slot' };

/** Empty: it has room. */
export function lacks(node: FleetNode, ask: PlacementAsk, rules: PlacementRules): readonly Lack[] {
  const lasting = [...lacksSize(node, ask.shape, rules), ...lacksPromise(node, ask.shape, rules)];
  // A pooled instance has its memory, its slot and its disk already.
  return isPooled(node, ask) ? lasting : [...lasting, ...lacksForFresh(node, ask.shape, rules)];
}

/** Whether it would have room if nothing else were on it. */
export function couldHold(node: FleetNode, shape: Shape, rules: PlacementRules): boolean {
  return lacksSize(node, shape, rules).length === 0;
}

function lacksSize(node: FleetNode, shape: Shape, rules: PlacementRules): Lack[] {
  const diskMib = Math.max(node.diskMib ?? Infinity, rules.diskMibAlways);
  return [
    ...(shape.memoryMib > node.memoryMib
      ? [{ kind: 'size' as const, memoryMib: node.memoryMib, neededMib: shape.memoryMib }]
      : []),
    ...(shape.diskMib > diskMib ? [{ kind: 'disk size' as const, diskMib, neededMib: shape.diskMib }] : []),
  ];
}

function lacksPromise(node: FleetNode, { memoryMib: neededMib }: Shape, rules: PlacementRules): Lack[] {
  const mostMib = node.memoryMib * rules.overcommit;
  const { promisedMib } = node;
  return promisedMib + neededMib > mostMib ? [{ kind: 'promise', promisedMib, mostMib, neededMib }] : [];
}

function lacksForFresh(node: FleetNode, shape: Shape, rules: PlacementRules): Lack[] {
  const reserveMib = Math.max(rules.memoryReserveMib, node.memoryMib * rules.memoryReserveShare);
  const memoryMib = reserveMib + Math.min(shape.memoryMib, rules.freshInstanceMib);
  const diskMib = Math.min(shape.diskMib, rules.diskReserveMib);
  return [
    ...(node.memoryFreeMib < memoryMib
      ? [{ kind: 'memory' as const, freeMib: node.memoryFreeMib, neededMib: memoryMib }]
      : []),
    ...(node.diskFreeMib < diskMib ? [{ kind: 'disk' as const, freeMib: node.diskFreeMib, neededMib: diskMib }] : []),
    ...(node.slotsFree < 1 ? [{ kind: 'slot' as const }] : []),
  ];
}

/** For a person: `n1 has 200 MiB of disk free, 256 MiB are needed`. */
export function inWords(node: FleetNode, lacking: readonly Lack[]): string {
  return `${node.id} has ${lacking.map(sayLack).join('; it has ')}`;
}

function sayLack(lack: Lack): string {
  switch (lack.kind) {
    case 'memory':
    case 'disk':
      return `${Math.floor(lack.freeMib)} MiB of ${lack.kind} free, ${Math.ceil(lack.neededMib)} MiB are needed`;
    case 'promise':
      return `promised ${Math.ceil(lack.promisedMib)} MiB of memory and may promise ${Math.floor(lack.mostMib)} MiB, ${lack.neededMib} MiB more are needed`;
    case 'size':
      return `${Math.floor(lack.memoryMib)} MiB of memory in all, ${lack.neededMib} MiB are needed`;
    case 'disk size':
      return `${Math.floor(lack.diskMib)} MiB of disk in all, ${lack.neededMib} MiB are needed`;
    case 'slot':
      return 'no slot free, one is needed';
  }
}

/** Why no node of these could hold such a shape, were they all empty. */
export function whyNoneCould(nodes: readonly FleetNode[], shape: Shape, rules: PlacementRules): string {
  const memoryMib = Math.max(...nodes.map((node) => node.memoryMib));
  const diskMib = Math.max(rules.diskMibAlways, ...nodes.map((node) => node.diskMib ?? Infinity));
  if (shape.memoryMib > memoryMib)
    return `it asks for ${shape.memoryMib} MiB of memory; the largest node has ${Math.floor(memoryMib)} MiB`;
  if (shape.diskMib > diskMib)
    return `it asks for ${shape.diskMib} MiB of disk; the largest that a node can give is ${Math.floor(diskMib)} MiB`;
  return `it asks for ${shape.memoryMib} MiB of memory and ${shape.diskMib} MiB of disk; no node has both`;
}
