import { NodeId, type Shape } from '@torpor/contracts';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PLACEMENT_RULES, type FleetNode, type PlacementAsk } from './fleet-node.ts';
import { isAlive, place, withPlaced } from './place.ts';

const shape: Shape = { memoryMib: 512, cpus: 1, diskMib: 1024, pids: 256 };
const ask: PlacementAsk = { template: 'base', shape, nowMs: 1_000 };

function node(id: string, more: Partial<FleetNode> = {}): FleetNode {
  return {
    id: NodeId.parse(id),
    isolation: 'gvisor',
    templates: ['base', 'node'],
    memoryMib: 8_192,
    memoryFreeMib: 6_000,
    diskFreeMib: 20_000,
    slotsFree: 100,
    pool: [],
    promisedMib: 0,
    heardAtMs: 900,
    leaseUntilMs: 0,
    ...more,
  };
}
const pooled = (ready: number, of: Partial<Shape> = {}) => ({
  pool: [{ template: 'base', shape: { ...shape, ...of }, ready }],
});

describe('place', () => {
  it.each<[string, FleetNode[], Partial<PlacementAsk>, string]>([
    ['the only node', [node('a')], {}, 'a'],
    ['the node with more memory free', [node('a', { memoryFreeMib: 3_000 }), node('b')], {}, 'b'],
    ['by share of memory, not by size', [node('a', { memoryMib: 60_000, memoryFreeMib: 10_000 }), node('b')], {}, 'b'],
    ['the lesser promise, when memory is equal', [node('a', { promisedMib: 512 }), node('b')], {}, 'b'],
    ['the first by name, when all is equal', [node('b'), node('a')], {}, 'a'],
    [
      'where a pooled instance waits, though it has less memory',
      [node('a', { memoryFreeMib: 700, ...pooled(1) }), node('b')],
      {},
      'a',
    ],
    [
      'not for a pool of another shape',
      [node('a', { memoryFreeMib: 700, ...pooled(9, { cpus: 2 }) }), node('b')],
      {},
      'b',
    ],
    ['not for an empty pool', [node('a', { memoryFreeMib: 700, ...pooled(0) }), node('b')], {}, 'b'],
    [
      'a pooled instance where nothing fresh would fit',
      [node('a', { memoryFreeMib: 0, slotsFree: 0, diskFreeMib: 0, ...pooled(1) })],
      {},
      'a',
    ],
    ['the node that has the template', [node('a', { templates: ['other'] }), node('b')], {}, 'b'],
    [
      'the node that isolates as asked',
      [node('a'), node('b', { isolation: 'microvm' })],
      { isolation: ['microvm'] },
      'b',
    ],
    ['another than those that refused', [node('a', pooled(3)), node('b')], { avoid: [NodeId.parse('a')] }, 'b'],
    [
      'a node whose lease holds',
      [node('a', { leaseUntilMs: 1_000 }), node('b', { leaseUntilMs: 1_001, memoryFreeMib: 900 })],
      {},
      'b',
    ],
    [
      'a node that was heard',
      [node('a', { heardAtMs: 1_000 - PLACEMENT_RULES.silentMs }), node('b', { memoryFreeMib: 900 })],
      {},
      'b',
    ],
    ['with memory promised over and over', [node('a', { promisedMib: 8_192 * 60 })], {}, 'a'],
  ])('chooses %s', (_, fleet, more, nodeId) => {
    expect(place(fleet, { ...ask, ...more })).toMatchObject({ kind: 'placed', nodeId });
  });

  it.each<[string, FleetNode[], Partial<PlacementAsk>, string]>([
    ['there is no node', [], {}, 'no_node'],
    ['the only node is silent', [node('a', { heardAtMs: -30_000 })], {}, 'no_node'],
    ['no node has the template', [node('a')], { template: 'cobol' }, 'no_template'],
    ['no node isolates so', [node('a')], { isolation: ['microvm'] }, 'no_template'],
    ['memory is at its reserve', [node('a', { memoryFreeMib: 300 })], {}, 'no_room'],
    ['memory is promised too often', [node('a', { promisedMib: 8_192 * 64 })], {}, 'no_room'],
    [
      'the ask is larger than all but a silent node',
      [node('a'), node('b', { memoryMib: 16_000, heardAtMs: -30_000 })],
      { shape: { ...shape, memoryMib: 9_000 } },
      'no_room',
    ],
    [
      'the ask is larger than all but a node that was given up',
      [node('a'), node('b', { memoryMib: 16_000, heardAtMs: -PLACEMENT_RULES.goneMs })],
      { shape: { ...shape, memoryMib: 9_000 } },
      'too_large',
    ],
    ['the ask has more memory than any node', [node('a')], { shape: { ...shape, memoryMib: 9_000 } }, 'too_large'],
    [
      'the ask has more disk than any node',
      [node('a', { diskMib: 30_000 })],
      { shape: { ...shape, diskMib: 30_001 } },
      'too_large',
    ],
    ['no slot is free', [node('a', { slotsFree: 0 })], {}, 'no_room'],
    ['the disks are full', [node('a', { diskFreeMib: 100 })], {}, 'no_room'],
    ['all have refused', [node('a')], { avoid: [NodeId.parse('a')] }, 'no_room'],
  ])('refuses when %s', (_, fleet, more, why) => {
    expect(place(fleet, { ...ask, ...more })).toMatchObject({ kind: 'refused', why });
  });

  it('names the templates that there are', () => {
    expect(place([node('a')], { ...ask, template: 'cobol' })).toMatchObject({
      reason: 'no node has the template "cobol"; there is "base", "node"',
    });
  });

  it.each<[string, FleetNode[], Partial<Shape>, string]>([
    [
      'memory',
      [node('a', { memoryFreeMib: 300 })],
      {},
      'no node has room for it: a has 300 MiB of memory free, 352 MiB are needed',
    ],
    [
      'disk',
      [node('a', { diskFreeMib: 200.7 })],
      {},
      'no node has room for it: a has 200 MiB of disk free, 256 MiB are needed',
    ],
    ['a slot', [node('a', { slotsFree: 0 })], {}, 'no node has room for it: a has no slot free, one is needed'],
    [
      'promises',
      [node('a', { promisedMib: 8_192 * 64 })],
      {},
      'no node has room for it: a has promised 524288 MiB of memory and may promise 524288 MiB, 512 MiB more are needed',
    ],
    [
      'two things at once',
      [node('a', { diskFreeMib: 0, slotsFree: 0 })],
      {},
      'no node has room for it: a has 0 MiB of disk free, 256 MiB are needed; it has no slot free, one is needed',
    ],
    [
      'what the node that lacks least lacks',
      [node('a', { diskFreeMib: 0, slotsFree: 0 }), node('b', { slotsFree: 0, memoryFreeMib: 900 })],
      {},
      'no node has room for it: b has no slot free, one is needed',
    ],
    [
      'a larger node',
      [node('a'), node('b', { memoryMib: 4_096 })],
      { memoryMib: 9_000 },
      'it asks for 9000 MiB of memory; the largest node has 8192 MiB',
    ],
    [
      'a larger pool of disks',
      [node('a', { diskMib: 30_000 })],
      { diskMib: 30_001 },
      'it asks for 30001 MiB of disk; the largest that a node can give is 30000 MiB',
    ],
    [
      'a node that is large in both',
      [node('a', { diskMib: 10_000 }), node('b', { memoryMib: 4_096, diskMib: 30_000 })],
      { memoryMib: 8_000, diskMib: 20_000 },
      'it asks for 8000 MiB of memory and 20000 MiB of disk; no node has both',
    ],
  ])('says with figures that it lacks %s', (_, fleet, asked, reason) => {
    expect(place(fleet, { ...ask, shape: { ...shape, ...asked } })).toMatchObject({ kind: 'refused', reason });
  });

  it('takes a disk limit of the usual size on a smaller pool, too', () => {
    const usual = { ...shape, diskMib: PLACEMENT_RULES.diskMibAlways };
    expect(place([node('a', { diskMib: 2_000 })], { ...ask, shape: usual })).toMatchObject({ kind: 'placed' });
  });

  it('spreads a burst between two heartbeats, pools first', () => {
    let fleet = [node('a', pooled(2)), node('b')];
    const went = Array.from({ length: 6 }, () => {
      const placed = place(fleet, ask);
      if (placed.kind === 'refused') return 'refused';
      fleet = fleet.map((one) => (one.id === placed.nodeId ? withPlaced(one, ask) : one));
      return placed.nodeId;
    });
    expect(went).toEqual(['a', 'a', 'b', 'a', 'b', 'a']);
  });

  it('never chooses a node that is dead, unsuited, avoided or full, and refuses only when none is left', () => {
    const anyNode = fc.record({
      id: fc.constantFrom('a', 'b', 'c', 'd'),
      templates: fc.subarray(['base', 'node']),
      memoryFreeMib: fc.integer({ min: 0, max: 8_192 }),
      slotsFree: fc.integer({ min: 0, max: 2 }),
      diskFreeMib: fc.integer({ min: 0, max: 600 }),
      promisedMib: fc.integer({ min: 0, max: 8_192 * 70 }),
      ready: fc.integer({ min: 0, max: 1 }),
      leaseUntilMs: fc.integer({ min: 0, max: 2_000 }),
    });
    fc.assert(
      fc.property(
        fc.uniqueArray(anyNode, { selector: (one) => one.id }),
        fc.subarray(['a', 'b', 'c', 'd']),
        (drawn, avoided) => {
          const fleet = drawn.map(({ id, ready, ...rest }) => node(id, { ...rest, ...pooled(ready) }));
          const avoid = avoided.map((id) => NodeId.parse(id));
          const may = (one: FleetNode) => place([one], { ...ask, avoid }).kind === 'placed';
          const answer = place(fleet, { ...ask, avoid });
          const chosen = answer.kind === 'placed' ? fleet.find((one) => one.id === answer.nodeId) : undefined;
          expect(chosen !== undefined).toBe(fleet.some(may));
          expect(
            chosen === undefined || (may(chosen) && isAlive(chosen, ask.nowMs) && !avoid.includes(chosen.id)),
          ).toBe(true);
          expect(place(fleet.toReversed(), { ...ask, avoid })).toEqual(answer);
        },
      ),
    );
  });
});
