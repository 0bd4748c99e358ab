import fc from 'fast-check';
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
    for (const happening of HAPPENINGS) {
      const cell = STANDBY_TABLE.deleted[happening];
      if (cell !== undefined && cell !== 'stay') expect(cell[0]).toBe('deleted');
    }
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
    if (before === 'deleted') expect(move.state).toBe('deleted');
    for (const effect of move.effects) {
      if (effect === 'pause' || effect === 'wake' || effect === 'destroy') this.line.push(effect);
      if (effect === 'let-in') {
        expect([this.state, this.frozen]).toEqual(['running', false]);
        this.waiting = 0;
      }
      if (effect === 'turn-away') this.waiting = 0;
    }
    this.#check();
  }

  #check(): void {
    // A request is never left waiting where nothing will let it in or turn it away.
    if (this.waiting > 0) {
      expect(['creating', 'pausing-then-wake', 'waking']).toContain(this.state);
      if (this.state === 'waking') expect(this.line).toContain('wake');
      if (this.state === 'pausing-then-wake') expect(this.line).toContain('pause');
      if (this.state === 'creating') expect(this.line).toContain('create');
    }
    if (this.state === 'running') expect(this.line).toEqual([]);
    if (['paused', 'fenced', 'fenced-asleep'].includes(this.state)) expect(this.line).toEqual([]);
    if (this.state === 'fencing') expect(this.line.at(-1)).toBe('pause');
    if (this.state === 'waking') expect(this.line.at(-1)).toBe('wake');
    if (this.state === 'deleting') expect(this.line).toContain('destroy');
  }

  /** Once all operations have ended, a node without a lease runs nothing. */
  checkFence(): void {
    if (!this.fencedNode || this.line.length > 0) return;
    expect(['fenced', 'fenced-asleep', 'deleted', 'failed']).toContain(this.state);
  }
}

const stories = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.constant<Story>('operation-ends-well') },
    { weight: 2, arbitrary: fc.constant<Story>('operation-fails') },
    { weight: 8, arbitrary: fc.constantFrom<Story>('request-arrived', 'idle-passed') },
    { weight: 3, arbitrary: fc.constantFrom<Story>('pause-asked', 'lease-lost', 'lease-renewed') },
    { weight: 1, arbitrary: fc.constantFrom<Story>('process-died', 'delete-asked') },
  ),
  { maxLength: 60 },
);

describe('random histories', () => {
  it('meet nothing impossible, strand no request, and end in an answer', () => {
    fc.assert(
      fc.property(stories, (history) => {
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
