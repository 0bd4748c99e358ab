import { describe, expect, it } from 'vitest';
import { plan, startable, type StepShape } from './plan.ts';

function step(
  id: string,
  needs: readonly string[] = [],
  options: { heavy?: boolean; after?: readonly string[] } = {},
): StepShape {
  return { id, needs, after: options.after ?? [], heavy: options.heavy ?? false };
}

const steps = [
  step('debian'),
  step('go'),
  step('runsc', ['go'], { heavy: true }),
  step('nats', ['go'], { heavy: true }),
  step('hostd', ['go'], { heavy: true, after: ['runsc'] }),
  step('template', ['debian'], { heavy: true }),
  step('host-layer', ['template']),
];

describe('plan', () => {
  it.each([
    { name: 'nothing wanted, nothing run', wanted: [], present: [], run: [] },
    {
      name: 'needs come before what needs them',
      wanted: ['host-layer'],
      present: [],
      run: ['debian', 'template', 'host-layer'],
    },
    {
      name: 'a present result needs nothing, not even the compiler that made it',
      wanted: ['runsc'],
      present: ['runsc'],
      run: [],
    },
    { name: 'a present need is not made again', wanted: ['runsc'], present: ['go'], run: ['runsc'] },
    { name: 'a shared need runs once', wanted: ['runsc', 'nats'], present: [], run: ['go', 'runsc', 'nats'] },
    { name: '"after" alone pulls nothing in', wanted: ['hostd'], present: ['go'], run: ['hostd'] },
  ])('$name', ({ wanted, present, run }) => {
    expect(plan(steps, wanted, new Set(present))).toEqual({ kind: 'plan', run });
  });

  it('names a step that nobody defined, and who asked for it', () => {
    expect(plan([step('a', ['b'])], ['a'], new Set())).toEqual({ kind: 'unknown-step', id: 'b', neededBy: 'a' });
  });

  it('names a circle of needs instead of going round in it', () => {
    expect(plan([step('a', ['b']), step('b', ['a'])], ['a'], new Set())).toEqual({
      kind: 'cycle',
      path: ['a', 'b', 'a'],
    });
  });
});

describe('startable', () => {
  const run = ['debian', 'go', 'runsc', 'nats', 'hostd', 'template'];
  it.each([
    { name: 'only what needs nothing starts first', done: [], running: [], heavyMax: 2, starts: ['debian', 'go'] },
    {
      name: 'heavy ones share the places',
      done: ['debian', 'go'],
      running: [],
      heavyMax: 2,
      starts: ['runsc', 'nats'],
    },
    { name: 'a taken place counts', done: ['debian', 'go'], running: ['runsc'], heavyMax: 2, starts: ['nats'] },
    { name: 'full is full', done: ['debian', 'go'], running: ['runsc', 'nats'], heavyMax: 2, starts: [] },
    {
      name: '"after" holds back while that one is planned',
      done: ['debian', 'go', 'nats'],
      running: ['runsc'],
      heavyMax: 2,
      starts: ['template'],
    },
    {
      name: 'and lets go when it is done',
      done: ['debian', 'go', 'nats', 'runsc'],
      running: ['template'],
      heavyMax: 2,
      starts: ['hostd'],
    },
  ])('$name', ({ done, running, heavyMax, starts }) => {
    expect(startable(steps, run, { done: new Set(done), running: new Set(running) }, heavyMax)).toEqual(starts);
  });

  it('does not wait for an "after" that is not planned', () => {
    expect(startable(steps, ['hostd'], { done: new Set(), running: new Set() }, 2)).toEqual(['hostd']);
  });
});
