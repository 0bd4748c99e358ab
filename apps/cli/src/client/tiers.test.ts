import { expect, it } from 'vitest';
import { nextWake, tierOf, wakesFrom } from './tiers.ts';

it.each([
  [{ state: 'running' }, 'running', ''],
  [{ state: 'paused', tier: 'paused', wakeMs: 1.84 }, 'asleep in RAM', '~1.8 ms'],
  [{ state: 'storing', tier: 'paused' }, 'asleep in RAM', 'not measured'],
  [{ state: 'stored', tier: 'stored', wakeMs: 141.2 }, 'stored', '~141 ms'],
  [{ state: 'stored', tier: 'files' }, 'files only', 'not measured'],
  [{ state: 'failed' }, undefined, ''],
  [{}, undefined, ''],
] as const)('%j', (view, tier, wake) => expect([tierOf(view), nextWake(view)]).toEqual([tier, wake]));

it('tells of wakes from each tier what was measured, and of none that none was', () => {
  const wakes = { stored: { lastMs: 12_340, predictedMs: 150, measured: 3 } };
  expect(wakesFrom('stored', { wakes })).toBe('the last took 12.3 s; about 150 ms is to be expected (3 measured)');
  expect(wakesFrom('paused', { wakes })).toBe('no wake measured yet');
});
