import type { FileConflict, FileEntry, FileStep } from '@torpor/contracts';
import { describe, expect, it } from 'vitest';
import { bytesOf, mergeStepOf, planOf } from './plan.ts';

const FILE: FileEntry = { kind: 'file', mode: 0o640, uid: 5, gid: 6, size: 10, modifiedAtMs: 0 };
const DIRECTORY: FileEntry = { ...FILE, kind: 'directory', size: 0 };

const step = (path: string): FileStep => ({ path, what: 'changed', here: FILE, fork: FILE });
const conflict = (path: string, more: Partial<FileConflict> = { here: FILE, fork: FILE }): FileConflict => ({
  path,
  why: 'both-changed',
  ...more,
});

describe('the plan of a merge', () => {
  it('has what only the fork has changed, and the conflicts', () => {
    const plan = planOf({ steps: [step('a')], conflicts: [conflict('b')] }, undefined);
    expect(plan).toMatchObject({ steps: [{ path: 'a' }], conflicts: [{ path: 'b' }], own: [] });
  });

  it('leaves conflicts out where what is here is to stay', () => {
    expect(planOf({ steps: [step('a')], conflicts: [conflict('b')] }, 'here')).toMatchObject({
      steps: [{ path: 'a' }],
      conflicts: [],
    });
  });

  it('makes steps of conflicts where the fork’s side is taken, in the order of paths', () => {
    const conflicts = [
      conflict('b'),
      conflict('c', { here: FILE }),
      conflict('d', { fork: FILE }),
      conflict('e', { here: FILE, fork: DIRECTORY }),
      conflict('f', { here: DIRECTORY, fork: { ...DIRECTORY, mode: 0o700 } }),
    ];
    const { steps, conflicts: left } = planOf({ steps: [step('cc')], conflicts }, 'fork');
    expect(steps.map(({ path, what }) => `${what} ${path}`)).toEqual([
      'changed b',
      'removed c',
      'changed cc',
      'added d',
      'retyped e',
      'restated f',
    ]);
    expect(left).toEqual([]);
  });

  it('never carries what the platform tells sandboxes apart by', () => {
    const plan = planOf(
      {
        steps: [step('etc/machine-id'), step('etc/machine-ids')],
        conflicts: [conflict('etc/resolv.conf'), conflict('etc/hostname'), conflict('etc/hosts')],
      },
      'fork',
    );
    expect(plan).toMatchObject({
      steps: [{ path: 'etc/machine-ids' }],
      conflicts: [],
      own: ['etc/machine-id', 'etc/resolv.conf', 'etc/hostname', 'etc/hosts'],
    });
  });
});

describe('a step, as the guest is told it', () => {
  it('puts, removes, or restates a directory whose contents have steps of their own', () => {
    const where = { path: Buffer.from('a').toString('base64') };
    const state = { mode: 0o640, uid: 5, gid: 6 };
    expect(mergeStepOf({ path: 'a', what: 'added', fork: DIRECTORY })).toEqual({
      ...where,
      do: 'put',
      expect: 'absent',
      ...state,
    });
    expect(mergeStepOf({ path: 'a', what: 'removed', here: FILE })).toMatchObject({
      ...where,
      do: 'remove',
      expect: 'present',
    });
    expect(mergeStepOf({ path: 'a', what: 'restated', here: DIRECTORY, fork: DIRECTORY })).toEqual({
      ...where,
      do: 'restate',
      expect: 'present',
      ...state,
    });
    expect(mergeStepOf({ path: 'a', what: 'restated', here: FILE, fork: FILE })).toMatchObject({
      do: 'put',
      expect: 'present',
    });
  });

  it('names a path by its bytes', () => {
    const raw = Buffer.from([0x61, 0xff]).toString('base64');
    expect(mergeStepOf({ path: 'a\ufffd', raw, what: 'removed', here: FILE }).path).toBe(raw);
  });
});

it('counts what is carried', () => {
  const added: FileStep = { path: 'd', what: 'added', fork: DIRECTORY, within: { entries: 2, bytes: 300 } };
  expect(bytesOf([step('a'), added, { path: 'g', what: 'removed', here: FILE }])).toBe(310);
});
