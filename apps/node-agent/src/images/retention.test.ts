import { expect, it } from 'vitest';
import type { KeptSnapshot } from '../journal/index.ts';
import { outlived, type SnapshotPolicy } from './retention.ts';

const NOW_MS = 1_000;
const kept = (image: string, because: KeptSnapshot['because'], atMs: number, bytes = 10): KeptSnapshot => {
  return { image, because, atMs, bytes, memoryBytes: bytes, sealedKey: '' };
};
const SNAPSHOTS = [
  kept('asked-1', 'asked', 100),
  kept('fork-1', 'fork', 200),
  kept('asked-2', 'asked', 300, 90),
  kept('restore-1', 'restore', 400),
  kept('fork-2', 'fork', 500),
  kept('asked-3', 'asked', 600),
];

it.each<[string, SnapshotPolicy, string]>([
  ['those beyond the number, of those made by themselves', { automaticMax: 1 }, 'fork-1 restore-1'],
  ['none, with room for all', { automaticMax: 3 }, ''],
  ['those made by themselves that are too old', { automaticMax: 3, automaticMs: 700 }, 'fork-1'],
  ['those asked for only when told to: by number', { automaticMax: 3, askedMax: 2 }, 'asked-1'],
  ['… by age', { automaticMax: 3, askedMs: 600 }, 'asked-1 asked-2'],
  ['… by size, the oldest first', { automaticMax: 3, askedBytes: 105 }, 'asked-1'],
  ['… and never the newest for its size', { automaticMax: 3, askedBytes: 1 }, 'asked-1 asked-2'],
])('lets go of %s', (_, policy, gone) => {
  expect(
    outlived(SNAPSHOTS, policy, NOW_MS)
      .map(({ image }) => image)
      .join(' '),
  ).toBe(gone);
});

it.each<[SnapshotPolicy, string]>([
  [{ automaticMax: 3 }, ''],
  [{ automaticMax: 2 }, 'fork-1 death-1'],
  [{ automaticMax: 3, automaticMs: 650 }, 'death-1 death-2'],
])('keeps the last image of what died, however many are made after it: %j', (policy, gone) => {
  const deaths = [kept('death-1', 'death', 100), kept('death-2', 'death', 300), kept('death-3', 'death', 340)];
  const forks = [kept('fork-1', 'fork', 400), kept('fork-2', 'fork', 500), kept('restore-1', 'restore', 600)];
  expect(
    outlived([...deaths, ...forks], policy, NOW_MS)
      .map(({ image }) => image)
      .join(' '),
  ).toBe(gone);
});

it.each<[SnapshotPolicy, string]>([
  [{ automaticMax: 3 }, ''],
  [{ automaticMax: 3, storesMax: 1 }, 'store-1'],
  [{ automaticMax: 1, storesMax: 2 }, ''],
  [{ automaticMax: 3, automaticMs: 800 }, 'store-1'],
])('lets go of what it slept in by a number of its own: %j', (policy, gone) => {
  const stores = [kept('store-1', 'store', 150), kept('store-2', 'store', 350), kept('fork-1', 'fork', 400)];
  expect(
    outlived(stores, policy, NOW_MS)
      .map(({ image }) => image)
      .join(' '),
  ).toBe(gone);
});

it('keeps the bases of forks from what merges leave, and what a comparison was made for for an hour at most', () => {
  const forks = [kept('fork-1', 'fork', 100), kept('fork-2', 'fork', 200)];
  const merges = [kept('merge-1', 'merge', 300), kept('merge-2', 'merge', 400), kept('merge-3', 'merge', 500)];
  const compared = [kept('compare-1', 'compare', 100), kept('compare-2', 'compare', 3_600_000)];
  const gone = outlived([...forks, ...merges, ...compared], { automaticMax: 2 }, 3_600_500);
  expect(gone.map(({ image }) => image)).toEqual(['merge-1', 'compare-1']);
});
