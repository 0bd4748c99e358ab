import type { DiffView } from '@torpor/api';
import { expect, it } from 'vitest';
import { pointsOf } from '../commands/diff.ts';
import { changesOf, mergeOf, shown } from './changes.ts';

const FILE = { kind: 'file', mode: 0o644, uid: 0, gid: 0, size: 2048, modifiedAtMs: 0 } as const;
const point = { image: 'any', atMs: 0 };
const view = (changes: DiffView['changes'], unlisted = 0): DiffView => ({
  from: point,
  to: point,
  changes,
  unlisted,
  counts: {},
  tookMs: 1,
});

it('tells each change in a line, and what was left out', () => {
  const directory = { ...FILE, kind: 'directory', size: 0 } as const;
  const text = changesOf(
    view(
      [
        { path: 'a', what: 'added', is: FILE },
        { path: 'b', what: 'changed', was: FILE, is: { ...FILE, size: 1 } },
        { path: 'c', what: 'restated', was: FILE, is: { ...FILE, mode: 0o4755, uid: 5 } },
        { path: 'd', what: 'removed', was: directory, within: { entries: 1, bytes: 3 } },
        { path: 'e', what: 'retyped', was: FILE, is: directory, within: { entries: 0, bytes: 0 } },
      ],
      7,
    ),
  );
  expect(text.split('\n')).toEqual([
    '+ /a  2.0 KiB',
    'M /b  2.0 KiB → 1 bytes',
    'm /c  0644 0:0 → 4755 5:0',
    '- /d/  1 entry, 3 bytes',
    'T /e/  file → directory, 0 entries, 0 bytes',
    '… and 7 more: name a part of the tree by --under',
  ]);
  expect(changesOf(view([]))).toBe('Nothing has changed.');
});

it('lets no name of a tenant reach the terminal as it is', () => {
  expect(shown({ path: 'a\u001b[31m\nb' })).toBe(String.raw`"/a\u001b[31m\nb"`);
  expect(shown({ path: 'a b' })).toBe('/a b');
});

it('reads points as people write them', () => {
  expect(pointsOf('web', undefined)).toEqual({ from: { name: 'web', at: 'last' }, to: { name: 'web', at: 'now' } });
  expect(pointsOf('web@one', undefined)).toEqual({
    from: { name: 'web', at: { snapshot: 'one' } },
    to: { name: 'web', at: 'now' },
  });
  expect(pointsOf('web@base', 'web')).toEqual({ from: { name: 'web', at: 'base' }, to: { name: 'web', at: 'now' } });
  expect(() => pointsOf('web@', undefined)).toThrow('expected a snapshot');
});

it('tells what a merge did, or what is in its way', () => {
  const merged = {
    isMerged: true,
    conflicts: [],
    unlisted: 0,
    tookMs: 1,
    left: ['etc/machine-id'],
    before: { image: 'i-7', atMs: 0 },
  };
  expect(
    mergeOf(
      { ...merged, steps: [{ path: 'a', what: 'changed', here: FILE, fork: { ...FILE, size: 1 } }] },
      false,
    ).split('\n'),
  ).toEqual([
    'M /a  2.0 KiB → 1 bytes',
    '= /etc/machine-id  stays as it is: each sandbox has its own, or it cannot be carried',
    '1 path merged.',
    'Before that it was i-7: torpor snapshot restore goes back there, memory and all.',
  ]);
  const refused = mergeOf(
    {
      isMerged: false,
      steps: [],
      conflicts: [{ path: 'b', why: 'removed-here', fork: FILE }],
      unlisted: 0,
      left: [],
      tookMs: 1,
    },
    false,
  );
  expect(refused).toContain('! /b  changed in the fork, removed here\nNothing was merged: 1 conflict.');
});
