/** The nodes of a stack on one box: one, unless `up` was asked for more. Each has a hostd, a node-agent, a pool of disks and a range of addresses of its own. */
import { join } from 'node:path';
import type { Installation } from './installation.ts';
import { scopeOf } from './installation.ts';
import type { Places } from './places.ts';

export const NODE_ID = 'local';

export interface StackNode {
  readonly id: string;
  /** What its services' names and its directories' end in. */
  readonly suffix: string;
  readonly scope: string;
  readonly ports: { readonly data: number; readonly dns: number; readonly observe: number };
  readonly subnet: string;
  readonly stateDir: string;
  readonly poolFile: string;
  readonly poolDir: string;
}

export function nodesOf(installation: Installation, places: Places): readonly StackNode[] {
  const { data, dns, observeNode: observe } = places.ports;
  const first = { ports: { data, dns, observe }, subnet: places.subnet };
  return [first, ...places.moreNodes].map((place, at) => nodeAt(installation, at, place));
}

function nodeAt(installation: Installation, at: number, place: Pick<StackNode, 'ports' | 'subnet'>): StackNode {
  const suffix = at === 0 ? '' : `-${at + 1}`;
  const id = `${NODE_ID}${suffix}`;
  const in_ = (name: string) => join(installation.stateDir, name);
  return {
    id,
    suffix,
    scope: scopeOf(installation.id, id),
    ...place,
    stateDir: in_(`node${suffix}`),
    poolFile: in_(`pool${suffix}.img`),
    poolDir: in_(`pool${suffix}`),
  };
}
