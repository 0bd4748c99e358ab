import assert from 'node:assert/strict';
import { array, assert as assertProperty, constant, constantFrom, oneof, property } from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  HAPPENINGS,
  next,
  reported,
  STANDBY_STATES,
  STANDBY_TABLE,
  type Happening,
  type StandbyState,
} from './table.ts';

describe('the table', () => {
  const rows: [StandbyState, Happening, StandbyState, string][] = [
    ['creating', 'create-done', 'running', 'let-in'],
    ['creating', 'create-failed', 'deleting', 'turn-away destroy'],
    ['running', 'request-arrived', 'running', 'let-in'],
    ['running', 'idle-passed', 'pausing', 'pause'],
    ['pausing', 'request-arrived', 'pausing-then-wake', ''],
    ['pausing', 'pause-failed', 'waking', 'wake'],
    ['pausing-then-wake', 'pause-done', 'waking', 'wake'],
    ['paused', 'request-arrived', 'waking', 'wake'],
    ['waking', 'wake-done', 'running', 'let-in'],
    ['waking', 'wake-failed', 'paused', 'turn-away'],
    ['paused', 'lease-lost', 'fenced-asleep', 'end-streams'],
    ['fenced', 'request-arrived', 'fenced', 'turn-away'],
    ['fenced', 'lease-renewed', 'waking', 'wake'],
    ['failed', 'request-arrived', 'failed', 'turn-away'],
    ['failed', 'delete-asked', 'deleting', 'turn-away end-streams destroy'],
    ['deleting', 'destroy-failed', 'deleting', 'destroy'],
    ['deleting', 'destroy-done', 'deleted', ''],
  ];
  it.each(rows)('%s × %s → %s', (state, happening, to, effects) => {
    expect(next(state, happening)).toEqual({ state: to, effects: effects.split(' ').filter(Boolean) });
  });

  it('never leaves deleted', () => {
    const cells = HAPPENINGS.map((happening) => STANDBY_TABLE.deleted[happening]);
    const ways = cells.filter((cell) => cell !== undefined && cell !== 'stay').map((cell) => cell[0]);
    expect(new Set(ways)).toEqual(new Set(['deleted']));
  });

  it('is an assertion where nothing is written', () => {
    expect(() => next('running', 'pause-done')).toThrow(/cannot happen/);
  });

  it('has a word of the contracts for every state', () => {
    for (const state of STANDBY_STATES) expect(reported(state)).toBeTruthy();
  });
});

/**
 * A small world around the table: operations run one after another, as in the engine; a frozen flag stands for the kernel;
 * `waiting` counts requests that are held. Random histories of outside happenings and of operations ending well or badly.
 */
type Op = 'create' | 'pause' | 'wake' | 'destroy';
const OUTSIDE = [
  'request-arrived',
  'idle-passed',
  'pause-asked',
  'lease-lost',
  'lease-renewed',
  'process-died',
  'delete-asked',
] as const;
type Story = (typeof OUTSIDE)[number] | 'operation-ends-well' | 'operation-fails';

class World {
  state: StandbyState = 'creating';
  line: Op[] = ['create'];
  waiting = 0;
  frozen = false;
  alive = true;
  fencedNode = false;

  tell(story: Story): void {
    if (story === 'operation-ends-well' || story === 'operation-fails')
      return this.#endOperation(story === 'operation-ends-well');
    if (story === 'process-died') {
      // While an operation of making or destroying runs, its end tells of the death.
      if (this.state === 'creating' || !this.alive) return;
      this.alive = false;
    }
    if (story === 'lease-lost') this.fencedNode = true;
    if (story === 'lease-renewed') this.fencedNode = false;
    if (story === 'request-arrived') this.waiting++;
    this.happen(story);
  }

  #endOperation(well: boolean): void {
    const op = this.line.shift();
    if (op === undefined) return;
    if (op === 'pause' && well) this.frozen = true;
    if (op === 'wake' && well) this.frozen = false;
    this.happen(`${op}-${well ? 'done' : 'failed'}` as Happening); // each op has both happenings in the table
    if (op === 'create' && this.fencedNode) this.happen('lease-lost');
  }

  happen(happening: Happening): void {
    const before = this.state;
    const move = next(before, happening);
    this.state = move.state;
    if (before === 'deleted') assert.equal(move.state, 'deleted');
    for (const effect of move.effects) {
      if (effect === 'pause' || effect === 'wake' || effect === 'destroy') this.line.push(effect);
      if (effect === 'let-in') {
        assert.deepEqual([this.state, this.frozen], ['running', false]);
        this.waiting = 0;
      }
      if (effect === 'turn-away') this.waiting = 0;
    }
    this.#check();
  }

  #check(): void {
    // A request is never left waiting where nothing will let it in or turn it away.
    if (this.waiting > 0) {
      assert.ok(['creating', 'pausing-then-wake', 'waking'].includes(this.state));
      if (this.state === 'waking') assert.ok(this.line.includes('wake'));
      if (this.state === 'pausing-then-wake') assert.ok(this.line.includes('pause'));
      if (this.state === 'creating') assert.ok(this.line.includes('create'));
    }
    if (this.state === 'running') assert.equal(this.line.length, 0);
    if (['paused', 'fenced', 'fenced-asleep'].includes(this.state)) assert.equal(this.line.length, 0);
    if (this.state === 'fencing') assert.equal(this.line.at(-1), 'pause');
    if (this.state === 'waking') assert.equal(this.line.at(-1), 'wake');
    if (this.state === 'deleting') assert.ok(this.line.includes('destroy'));
  }

  /** Once all operations have ended, a node without a lease runs nothing. */
  checkFence(): void {
    if (!this.fencedNode || this.line.length > 0) return;
    assert.ok(['fenced', 'fenced-asleep', 'deleted', 'failed'].includes(this.state));
  }
}

const stories = array(
  oneof(
    { weight: 6, arbitrary: constant<Story>('operation-ends-well') },
    { weight: 2, arbitrary: constant<Story>('operation-fails') },
    { weight: 8, arbitrary: constantFrom<Story>('request-arrived', 'idle-passed') },
    { weight: 3, arbitrary: constantFrom<Story>('pause-asked', 'lease-lost', 'lease-renewed') },
    { weight: 1, arbitrary: constantFrom<Story>('process-died', 'delete-asked') },
  ),
  { maxLength: 60 },
);

describe('random histories', () => {
  it('meet nothing impossible, strand no request, and end in an answer', () => {
    assertProperty(
      property(stories, (history) => {
        const world = new World();
        for (const story of history) {
          world.tell(story);
          world.checkFence();
        }
        for (let i = 0; i < 20 && world.line.length > 0; i++) world.tell('operation-ends-well');
        expect(world.line).toEqual([]);
        expect(world.waiting).toBe(0);
      }),
      { numRuns: 5000 },
    );
  });

  it('honour a wake that was queued while falling asleep', () => {
    const world = new World();
    for (const story of ['operation-ends-well', 'idle-passed', 'request-arrived', 'operation-ends-well'] as const)
      world.tell(story);
    expect(world.state).toBe('waking');
    world.tell('operation-ends-well');
    expect([world.state, world.waiting, world.frozen]).toEqual(['running', 0, false]);
  });
});
