/**
 * The table of states × happenings of the standby engine (DESIGN §4): what an instance is doing, what may befall it, and what follows.
 * The engine in node-agent mirrors it: it feeds happenings in and carries effects out, one at a time per instance, and holds no ifs of its own.
 *
 * Two words need care. *Fenced* is frozen because the node's lease on its instances ended: another node may own them by now, so no request may wake them.
 * An *operation* is what an effect starts on the host (`pause`, `wake`, `destroy`); its end comes back as a happening, possibly after the state has moved on.
 */
import type { InstanceState } from '@torpor/contracts';

export const STANDBY_STATES = [
  'creating',
  'running',
  'pausing',
  /** Asked for while it fell asleep: a pause cannot be cut short, so it wakes right after. */
  'pausing-then-wake',
  'paused',
  'waking',
  'fencing',
  /** Fenced while in use: a renewed lease wakes it. */
  'fenced',
  /** Fenced while asleep: a renewed lease leaves it asleep. */
  'fenced-asleep',
  'deleting',
  'deleted',
  /** Its process is gone; its files are kept until somebody deletes it. */
  'failed',
] as const;
export type StandbyState = (typeof STANDBY_STATES)[number];

export const HAPPENINGS = [
  'create-done',
  'create-failed',
  /** After a restart of the node-agent, what the kernel says of a claimed instance. */
  'found-running',
  'found-frozen',
  /** Anything that needs it awake: a request, bytes on a preview's socket, a person's resume. */
  'request-arrived',
  /** The idle policy's instant came and nothing holds it awake. */
  'idle-passed',
  /** A person's pause: in use or not. */
  'pause-asked',
  'pause-done',
  'pause-failed',
  'wake-done',
  'wake-failed',
  'lease-lost',
  'lease-renewed',
  'process-died',
  'delete-asked',
  'destroy-done',
  'destroy-failed',
] as const;
export type Happening = (typeof HAPPENINGS)[number];

export const EFFECTS = [
  'pause',
  'wake',
  'destroy',
  /** Requests that are held go on to the guest. */
  'let-in',
  /** Requests that are held are refused, saying why. */
  'turn-away',
  /** Streams that are open end with an error. */
  'end-streams',
] as const;
export type Effect = (typeof EFFECTS)[number];

export interface Move {
  readonly state: StandbyState;
  readonly effects: readonly Effect[];
}

/** `stay`: heard too late or of no consequence; nothing changes. Absent from a row: cannot happen in that state, a bug. */
type Cell = readonly [StandbyState, ...Effect[]] | 'stay';
type Row = Readonly<Partial<Record<Happening, Cell>>>;

/** An operation's end that arrives after the state has moved on; the next operation in line sets it right. */
const LATE = { 'pause-done': 'stay', 'pause-failed': 'stay', 'wake-done': 'stay', 'wake-failed': 'stay' } as const;

/** Ends that a state may meet whatever it does. */
const DIES: Row = { 'process-died': ['failed', 'turn-away', 'end-streams'] };
const DELETED: Row = { 'delete-asked': ['deleting', 'turn-away', 'end-streams', 'destroy'] };

export const STANDBY_TABLE: Readonly<Record<StandbyState, Row>> = {
  creating: {
    'create-done': ['running', 'let-in'],
    'create-failed': ['deleting', 'turn-away', 'destroy'],
    'found-running': ['running'],
    'found-frozen': ['paused'],
    'request-arrived': 'stay',
    'idle-passed': 'stay',
    'pause-asked': 'stay',
    'lease-lost': 'stay', // The engine says it again after create-done.
    'lease-renewed': 'stay',
    ...DIES,
    ...DELETED,
  },
  running: {
    'request-arrived': ['running', 'let-in'],
    'idle-passed': ['pausing', 'pause'],
    'pause-asked': ['pausing', 'pause'],
    'lease-lost': ['fencing', 'end-streams', 'pause'],
    'lease-renewed': 'stay',
    ...DIES,
    ...DELETED,
  },
  pausing: {
    'request-arrived': ['pausing-then-wake'],
    'idle-passed': 'stay',
    'pause-asked': 'stay',
    'pause-done': ['paused'],
    'pause-failed': ['waking', 'wake'], // Half a pause is undone, never left.
    'wake-done': 'stay',
    'wake-failed': 'stay',
    'lease-lost': ['fencing', 'end-streams'], // The pause that it needs is under way.
    'lease-renewed': 'stay',
    ...DIES,
    ...DELETED,
  },
  'pausing-then-wake': {
    'request-arrived': 'stay',
    'idle-passed': 'stay',
    'pause-asked': ['pausing', 'turn-away'],
    'pause-done': ['waking', 'wake'],
    'pause-failed': ['waking', 'wake'],
    'wake-done': 'stay',
    'wake-failed': 'stay',
    'lease-lost': ['fencing', 'turn-away', 'end-streams'],
    'lease-renewed': 'stay',
    ...DIES,
    ...DELETED,
  },
  paused: {
    'request-arrived': ['waking', 'wake'],
    'idle-passed': 'stay',
    'pause-asked': 'stay',
    'lease-lost': ['fenced-asleep', 'end-streams'],
    'lease-renewed': 'stay',
    ...DIES,
    ...DELETED,
  },
  waking: {
    'request-arrived': 'stay',
    'idle-passed': 'stay',
    'pause-asked': 'stay', // Somebody waits for this wake; a person may ask again.
    'wake-done': ['running', 'let-in'],
    'wake-failed': ['paused', 'turn-away'], // Nothing is lost: the next request tries again.
    'pause-done': 'stay',
    'pause-failed': 'stay',
    'lease-lost': ['fencing', 'turn-away', 'end-streams', 'pause'],
    'lease-renewed': 'stay',
    ...DIES,
    ...DELETED,
  },
  fencing: {
    'request-arrived': ['fencing', 'turn-away'],
    'idle-passed': 'stay',
    'pause-asked': 'stay',
    'pause-done': ['fenced'],
    'pause-failed': ['fencing', 'pause'],
    'wake-done': 'stay',
    'wake-failed': 'stay',
    'lease-lost': 'stay',
    'lease-renewed': ['pausing-then-wake'],
    ...DIES,
    ...DELETED,
  },
  fenced: {
    'request-arrived': ['fenced', 'turn-away'],
    'idle-passed': 'stay',
    'pause-asked': ['fenced-asleep'],
    'lease-lost': 'stay',
    'lease-renewed': ['waking', 'wake'],
    ...DIES,
    ...DELETED,
  },
  'fenced-asleep': {
    'request-arrived': ['fenced-asleep', 'turn-away'],
    'idle-passed': 'stay',
    'pause-asked': 'stay',
    'lease-lost': 'stay',
    'lease-renewed': ['paused'],
    ...DIES,
    ...DELETED,
  },
  deleting: {
    'create-done': 'stay', // Deleted while it was made: the destruction waits in line behind the making.
    'create-failed': 'stay',
    'request-arrived': ['deleting', 'turn-away'],
    'idle-passed': 'stay',
    'pause-asked': 'stay',
    ...LATE,
    'lease-lost': 'stay',
    'lease-renewed': 'stay',
    'process-died': 'stay',
    'delete-asked': 'stay',
    'destroy-done': ['deleted'],
    'destroy-failed': ['deleting', 'destroy'],
  },
  deleted: {
    'request-arrived': ['deleted', 'turn-away'],
    'idle-passed': 'stay',
    'pause-asked': 'stay',
    ...LATE,
    'lease-lost': 'stay',
    'lease-renewed': 'stay',
    'process-died': 'stay',
    'delete-asked': 'stay',
  },
  failed: {
    'create-done': 'stay',
    'create-failed': 'stay',
    'request-arrived': ['failed', 'turn-away'],
    'idle-passed': 'stay',
    'pause-asked': 'stay',
    ...LATE,
    'lease-lost': 'stay',
    'lease-renewed': 'stay',
    'process-died': 'stay',
    ...DELETED,
  },
};

/** What follows. Throws when the table has no such cell: an assertion, not a failure anybody may meet. */
export function next(state: StandbyState, happening: Happening): Move {
  const cell = STANDBY_TABLE[state][happening];
  if (cell === undefined) throw new Error(`"${happening}" cannot happen to an instance that is ${state}`);
  if (cell === 'stay') return { state, effects: [] };
  const [to, ...effects] = cell;
  return { state: to, effects };
}

/** The same state in the words of the contracts, which know nothing of queued wakes and fences. */
export function reported(state: StandbyState): InstanceState {
  switch (state) {
    case 'pausing-then-wake':
    case 'fencing':
      return 'pausing';
    case 'fenced':
    case 'fenced-asleep':
      return 'paused';
    case 'creating':
    case 'running':
    case 'pausing':
    case 'paused':
    case 'waking':
    case 'deleting':
    case 'deleted':
    case 'failed':
      return state;
  }
}
