import { NodeId } from '@torpor/contracts';
import { expect, it } from 'vitest';
import type { FleetNode } from '../placement/fleet-node.ts';
import { placeVolume, type VolumeAsk } from './place-volume.ts';

const [a, b] = [NodeId.parse('a'), NodeId.parse('b')];

function node(id: NodeId, more: Partial<FleetNode> = {}): FleetNode {
  return {
    id,
    isolation: 'gvisor',
    templates: [],
    memoryMib: 0,
    memoryFreeMib: 0,
    diskMib: 10_000,
    diskFreeMib: 8_000,
    slotsFree: 0,
    pool: [],
    promisedMib: 0,
    heardAtMs: 900,
    leaseUntilMs: 0,
    ...more,
  };
}

const ask: VolumeAsk = { moreMib: 1_000, isCopy: false, nowMs: 1_000 };
const promised = (aMib: number, bMib = 0) =>
  new Map([
    [a, aMib],
    [b, bMib],
  ]);

it.each<[string, FleetNode[], Map<NodeId, number>, Partial<VolumeAsk>, string]>([
  ['the only node', [node(a)], promised(0), {}, 'a'],
  ['the node with the most room', [node(a, { diskFreeMib: 2_000 }), node(b)], promised(0), {}, 'b'],
  ['by what is promised, too', [node(a), node(b)], promised(5_000), {}, 'b'],
  ['the node that it must be on', [node(a), node(b)], promised(5_000), { only: a }, 'a'],
  ['a full node for a copy', [node(a, { diskFreeMib: 0 })], promised(0), { isCopy: true }, 'a'],
  ['the last of what may be promised', [node(a)], promised(9_000), {}, 'a'],
])('chooses %s', (_, fleet, volumes, more, nodeId) => {
  expect(placeVolume(fleet, volumes, { ...ask, ...more })).toEqual({ kind: 'placed', nodeId });
});

it.each<[string, FleetNode[], Map<NodeId, number>, Partial<VolumeAsk>, string, RegExp]>([
  ['there is no node', [], promised(0), {}, 'no_node', /no node is alive/],
  ['its node is silent', [node(a, { heardAtMs: -30_000 }), node(b)], promised(0), { only: a }, 'no_node', /a .*away/],
  [
    'more is asked for than is free',
    [node(a)],
    promised(0),
    { moreMib: 8_001 },
    'no_space',
    /8001 MiB.*a, has 8000 MiB/,
  ],
  ['more is promised than there is', [node(a)], promised(9_500), {}, 'no_space', /has 500 MiB/],
  ['a copy would be promised more', [node(a)], promised(9_500), { isCopy: true }, 'no_space', /has 500 MiB/],
])('refuses when %s', (_, fleet, volumes, more, why, reason) => {
  expect(placeVolume(fleet, volumes, { ...ask, ...more })).toMatchObject({
    kind: 'refused',
    why,
    reason: expect.stringMatching(reason),
  });
});
