import { NodeId } from '@torpor/contracts';
import { expect, it } from 'vitest';
import { nodeDetails, swapOf } from './node-details.ts';

const area = { kind: 'zram', device: '/dev/zram1', sizeMib: 2048, usedMib: 512, atRest: 'memory' } as const;

it('says of swap which kind it is, how large, and who could read it', () => {
  expect(swapOf([area])).toBe('zram at /dev/zram1, 0.5 of 2.0 GiB used, compressed in RAM, never on a disk');
  expect(swapOf([{ ...area, kind: 'host', device: '/dev/sda2', atRest: 'plain' }])).toBe(
    "the host's own at /dev/sda2, 0.5 of 2.0 GiB used, not encrypted",
  );
  expect(swapOf([])).toBe('none');
});

it('says why a node pages nothing out, and what would stay on it', () => {
  const node = {
    id: NodeId.parse('local'),
    url: 'http://127.0.0.1:1',
    isolation: 'gvisor' as const,
    templates: ['base'],
    capacity: {
      memoryMib: 8000,
      memoryFreeMib: 4000,
      diskFreeMib: 100,
      slotsFree: 5,
      swap: { areas: [], pagesOut: false, reason: 'this host has no swap' },
    },
    pool: [],
    heardAtMs: 1_000,
    left: 0,
    moving: 0,
    troubles: [],
    stays: { volumes: 1, snapshots: 2 },
  };
  expect(nodeDetails(node, 3_000)).toMatch(/pages out +no: this host has no swap/);
  expect(nodeDetails(node, 3_000)).toMatch(/does not travel +1 volume, 2 snapshots of sandboxes that are no more/);
});
