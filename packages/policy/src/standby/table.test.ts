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
    ['paused', 'lean-due', 'leaning', 'lean'],
    ['leaning', 'lean-done', 'lean', ''],
    ['leaning', 'lean-failed', 'paused', ''],
    ['leaning', 'request-arrived', 'waking', 'wake'],
    ['leaning', 'store-due', 'storing', 'store'],
    ['leaning', 'lease-lost', 'leaning-fenced', 'end-streams'],
    ['leaning-fenced', 'lean-done', 'fenced-asleep', ''],
    ['leaning-fenced', 'lease-renewed', 'leaning', ''],
    ['lean', 'request-arrived', 'waking', 'wake'],
    ['lean', 'store-due', 'storing', 'store'],
    ['lean', 'died-with-image', 'stored', 'turn-away end-streams'],
    ['waking', 'lean-done', 'waking', ''],
    ['leaning', 'leave-asked', 'leaving', 'leave'],
    ['lean', 'leave-asked', 'leaving', 'leave'],
    ['leaving', 'lean-done', 'leaving', ''],
    ['paused', 'store-due', 'storing', 'store'],
    ['storing', 'request-arrived', 'storing-then-wake', ''],
    ['storing', 'store-done', 'releasing', 'release'],
    ['storing', 'store-failed', 'paused', ''],
    ['storing-then-wake', 'store-done', 'waking', 'wake'],
    ['storing-then-wake', 'store-cut', 'waking', 'wake'],
    ['releasing', 'request-arrived', 'releasing-then-wake', ''],
    ['releasing-then-wake', 'release-done', 'restoring', 'restore'],
    ['releasing-then-wake', 'release-cut', 'waking', 'wake'],
    ['stored', 'request-arrived', 'restoring', 'restore'],
    ['restoring', 'restore-done', 'running', 'let-in'],
    ['restoring', 'restore-failed', 'stored', 'turn-away'],
    ['stored', 'lease-lost', 'fenced-stored', 'end-streams'],
    ['fenced-stored', 'request-arrived', 'fenced-stored', 'turn-away'],
    ['restoring-fenced', 'restore-done', 'fencing', 'pause'],
    ['storing-fenced', 'store-done', 'fenced-asleep', ''],
    ['running', 'snapshot-asked', 'pausing-then-wake', 'snapshot'],
    ['paused', 'snapshot-asked', 'pausing', 'snapshot'],
    ['running', 'rewind-asked', 'releasing-then-wake', 'rewind'],
    ['paused', 'rewind-asked', 'releasing-then-wake', 'rewind'],
    ['releasing', 'release-cut', 'waking', 'wake'],
    ['releasing-fenced', 'release-cut', 'fencing', 'pause'],
    ['running', 'leave-asked', 'leaving', 'leave'],
    ['stored', 'leave-asked', 'leaving', 'leave'],
    ['leaving', 'request-arrived', 'leaving', ''],
    ['leaving', 'leave-cut', 'waking', 'wake'],
    ['leaving', 'lease-lost', 'leaving-fenced', 'turn-away end-streams'],
    ['travelling', 'request-arrived', 'travelling', ''],
    ['travelling', 'stay-asked', 'stored', ''],
    ['travelling', 'delete-asked', 'deleting', 'turn-away end-streams destroy'],
    ['running', 'died-with-image', 'stored', 'turn-away end-streams'],
    ['waking', 'died-with-image', 'restoring', 'end-streams restore'],
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
 * A small world around the table: operations run one after another, as in the engine. `ram` is what the process holds, `image` the newest whole one and
 * whether nothing has happened inside since; `waiting` counts requests that are held. Random histories of outside happenings and of operations ending
 * well, badly or early.
 */
const OPS = [
  'create',
  'pause',
  'wake',
  'lean',
  'store',
  'release',
  'restore',
  'snapshot',
  'rewind',
  'leave',
  'destroy',
] as const;
type Op = (typeof OPS)[number];
const isOp = (effect: string): effect is Op => OPS.some((op) => op === effect);
const OUTSIDE = [
  'request-arrived',
  'idle-passed',
  'pause-asked',
  'lean-due',
  'store-due',
  'snapshot-asked',
  'rewind-asked',
  'leave-asked',
  'stay-asked',
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
  ram: 'running' | 'frozen' | 'none' = 'running';
  image: 'none' | 'older' | 'current' = 'none';
  fencedNode = false;

  tell(story: Story): void {
    if (story === 'operation-ends-well' || story === 'operation-fails')
      return this.#endOperation(story === 'operation-ends-well');
    if (story === 'process-died') return this.#die();
    // Whoever asks for these waits until they can be.
    const isForRested = story === 'snapshot-asked' || story === 'rewind-asked';
    if (isForRested && !['running', 'paused', 'leaning', 'lean'].includes(this.state)) return;
    if (story === 'leave-asked' && !['running', 'paused', 'leaning', 'lean', 'stored'].includes(this.state)) return;
    if (story === 'stay-asked') return this.#stay();
    if (story === 'lease-lost') this.fencedNode = true;
    if (story === 'lease-renewed') this.fencedNode = false;
    if (story === 'request-arrived') this.waiting++;
    this.happen(story);
  }

  /** The engine says what is still so. */
  #stay(): void {
    if (this.state !== 'travelling') return;
    this.#andMeetHeld('stay-asked');
    if (this.fencedNode) this.happen('lease-lost');
  }

  #die(): void {
    // While it is made, stored or destroyed, the end of that operation tells of the death.
    const tellsItself = ['create', 'store', 'release', 'restore', 'rewind', 'leave', 'destroy'];
    if (this.ram === 'none' || tellsItself.includes(this.#work[0] ?? '')) return;
    this.ram = 'none';
    this.happen(this.image === 'none' ? 'process-died' : 'died-with-image');
  }

  /** The line but for a page-out, which is cut short by what comes behind it, and changes nothing that a state says. */
  get #work(): readonly Op[] {
    return this.line[0] === 'lean' ? this.line.slice(1) : this.line;
  }

  #endOperation(well: boolean): void {
    const op = this.line.shift();
    if (op === undefined) return;
    if (op === 'store') return this.#endStore(well);
    if (op === 'rewind') return this.#endRewind(well);
    if (op === 'leave') return this.#endLeave(well);
    if (op === 'snapshot') return this.#endSnapshot(well);
    if (op === 'release' && !well && this.state === 'releasing-then-wake' && this.ram === 'frozen') {
      return this.happen('release-cut');
    }
    if (well) this.#take(op);
    else if (op === 'pause' && this.ram !== 'none') this.ram = 'frozen'; // Half asleep answers nothing either.
    this.happen(`${op}-${well ? 'done' : 'failed'}` as Happening); // each op has both happenings in the table
    if (op === 'create' && this.fencedNode) this.happen('lease-lost');
  }

  /** A save of a process that has died fails; one that somebody waits for gives way. */
  #endStore(well: boolean): void {
    if (this.ram === 'none') return this.happen('store-failed');
    if (!well) return this.happen(this.state === 'storing-then-wake' ? 'store-cut' : 'store-failed');
    this.image = 'current';
    this.happen('store-done');
  }

  /** A snapshot that fails leaves it asleep; only a pause that fails does not. */
  #endSnapshot(well: boolean): void {
    if (this.ram !== 'none') this.ram = 'frozen';
    this.happen(well ? 'pause-done' : 'pause-failed');
  }

  /** As a rewind; one that fails may also have let go of the RAM before. */
  #endLeave(well: boolean): void {
    if (!well && this.ram !== 'none') {
      this.ram = 'frozen';
      return this.happen('leave-cut');
    }
    this.image = 'current';
    this.ram = 'none';
    if (well) this.happen('leave-done');
    else this.#andMeetHeld('leave-failed');
  }

  /** Who came before is told to the table again. */
  #andMeetHeld(happening: 'stay-asked' | 'leave-failed'): void {
    const held = this.waiting;
    this.waiting = 0;
    this.happen(happening);
    if (held === 0 || this.state !== 'stored') return;
    this.waiting = held;
    this.happen('request-arrived');
  }

  /** It stores before it lets go of anything; one that fails leaves it as it was, or half asleep. */
  #endRewind(well: boolean): void {
    if (!well) {
      if (this.ram !== 'none') this.ram = 'frozen';
      return this.happen('release-cut');
    }
    this.image = 'current';
    this.ram = 'none';
    this.happen('release-done');
  }

  #take(op: Op): void {
    if (this.ram !== 'none' && op === 'pause') this.ram = 'frozen';
    if (this.ram !== 'none' && op === 'wake') this.ram = 'running';
    if (op === 'restore') this.ram = 'running';
    if (op === 'release' || op === 'destroy') this.ram = 'none';
    if ((op === 'wake' || op === 'restore') && this.image === 'current') this.image = 'older';
  }

  happen(happening: Happening): void {
    const before = this.state;
    const move = next(before, happening);
    this.state = move.state;
    if (before === 'deleted') assert.equal(move.state, 'deleted');
    for (const effect of move.effects) {
      if (isOp(effect)) this.line.push(effect);
      if (effect === 'let-in') {
        assert.deepEqual([this.state, this.ram], ['running', 'running']);
        this.waiting = 0;
      }
      if (effect === 'turn-away') this.waiting = 0;
      if (effect === 'release' && happening === 'store-done') {
        assert.deepEqual([this.image, this.waiting], ['current', 0]); // the only place where RAM is let go
      }
    }
    this.#check();
  }

  #check(): void {
    this.#checkWaiting();
    const line = this.#work;
    if (['running', 'paused', 'lean', 'stored', 'fenced', 'fenced-asleep', 'fenced-stored'].includes(this.state)) {
      // What a state says is so; only of a process that died may an operation still be under way.
      if (this.state === 'running') assert.deepEqual([this.line, this.ram], [[], 'running']);
      else if (this.state.endsWith('stored')) assert.equal(this.ram, 'none');
      else assert.deepEqual([this.line, this.ram], [[], 'frozen']);
    }
    if (this.state.startsWith('leaning')) assert.deepEqual([this.line, this.ram], [['lean'], 'frozen']);
    if (this.state === 'fencing') assert.ok(['pause', 'snapshot'].includes(this.line.at(-1) ?? ''));
    if (this.state === 'waking') assert.equal(this.line.at(-1), 'wake');
    if (this.state.startsWith('storing')) assert.deepEqual(line, ['store']);
    if (this.state.startsWith('releasing')) assert.match(line.join(), /^(release|rewind)$/);
    if (this.state.startsWith('leaving')) assert.equal(line.at(-1), 'leave');
    if (this.state === 'travelling') assert.deepEqual([line, this.ram, this.image], [[], 'none', 'current']);
    if (this.state.startsWith('restoring')) assert.equal(this.line.at(-1), 'restore');
    if (this.state === 'deleting') assert.ok(this.line.includes('destroy'));
    // Nothing is lost: somewhere it is whole, unless it was told to be otherwise.
    if (!['creating', 'failed', 'deleting', 'deleted'].includes(this.state)) {
      assert.ok(this.ram !== 'none' || this.image !== 'none', this.state);
    }
  }

  /** A request is never left waiting where nothing will let it in or turn it away. */
  #checkWaiting(): void {
    if (this.waiting === 0) return;
    assert.ok(
      [
        ...['creating', 'pausing-then-wake', 'waking', 'storing-then-wake', 'releasing-then-wake', 'restoring'],
        ...['leaving', 'travelling'],
      ].includes(this.state),
    );
    if (this.state === 'pausing-then-wake') assert.ok(this.line.includes('pause') || this.line.includes('snapshot'));
    if (this.state === 'creating') assert.ok(this.line.includes('create'));
  }

  /** Once all operations have ended, a node without a lease runs nothing. */
  checkFence(): void {
    if (!this.fencedNode || this.line.length > 0) return;
    assert.ok(['fenced', 'fenced-asleep', 'fenced-stored', 'travelling', 'deleted', 'failed'].includes(this.state));
  }
}

const stories = array(
  oneof(
    { weight: 12, arbitrary: constant<Story>('operation-ends-well') },
    { weight: 2, arbitrary: constant<Story>('operation-fails') },
    { weight: 5, arbitrary: constantFrom<Story>('request-arrived', 'idle-passed', 'pause-asked') },
    { weight: 6, arbitrary: constantFrom<Story>('lean-due', 'store-due') },
    { weight: 2, arbitrary: constantFrom<Story>('snapshot-asked', 'rewind-asked') },
    { weight: 2, arbitrary: constantFrom<Story>('leave-asked', 'stay-asked') },
    { weight: 3, arbitrary: constantFrom<Story>('lease-lost', 'lease-renewed') },
    { weight: 1, arbitrary: constantFrom<Story>('process-died', 'process-died', 'delete-asked') },
  ),
  { maxLength: 60, size: 'max' },
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
        world.tell('stay-asked'); // what becomes of a move is told in the end
        for (let i = 0; i < 5 && world.line.length > 0; i++) world.tell('operation-ends-well');
        expect(world.line).toEqual([]);
        expect(world.waiting).toBe(0);
      }),
      { numRuns: 3000 },
    );
  });

  it('honour a wake that was queued while falling asleep', () => {
    const world = new World();
    for (const story of ['operation-ends-well', 'idle-passed', 'request-arrived', 'operation-ends-well'] as const)
      world.tell(story);
    expect(world.state).toBe('waking');
    world.tell('operation-ends-well');
    expect([world.state, world.waiting, world.ram]).toEqual(['running', 0, 'running']);
  });

  it('keep the RAM of one that was asked for while it was stored', () => {
    const world = new World();
    const story = [
      'operation-ends-well',
      'pause-asked',
      'operation-ends-well',
      'store-due',
      'request-arrived',
    ] as const;
    for (const part of story) world.tell(part);
    expect([world.state, world.waiting]).toEqual(['storing-then-wake', 1]);
    world.tell('operation-ends-well');
    world.tell('operation-ends-well');
    expect([world.state, world.waiting, world.ram, world.image]).toEqual(['running', 0, 'running', 'older']);
  });

  it('reach every state', () => {
    const seen = new Set<StandbyState>();
    assertProperty(
      property(stories, (history) => {
        const world = new World();
        for (const story of history) {
          world.tell(story);
          seen.add(world.state);
        }
      }),
      { numRuns: 1000, seed: 4 },
    );
    expect(STANDBY_STATES.filter((state) => !seen.has(state))).toEqual([]);
  });
});
