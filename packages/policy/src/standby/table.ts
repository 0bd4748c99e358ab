/**
 * The table of states × happenings of the standby engine (DESIGN §4): what an instance is doing, what may befall it, and what follows.
 * The engine in node-agent mirrors it: it feeds happenings in and carries effects out, one at a time per instance, and holds no ifs of its own.
 *
 * Two words need care. *Fenced* is frozen because the node's lease on its instances ended: another node may own them by now, so no request may wake them.
 * An *operation* is what an effect starts on the host (`pause`, `store`, `destroy`, …); its end comes back as a happening, possibly after the state has
 * moved on.
 *
 * Asleep has three depths here. *Paused*: everything is in RAM. *Lean*: its memory is in the host's swap, the kernel around it in RAM; to a wake, and to
 * whatever may end it, that is the same as paused. *Stored*: nothing of it runs; its memory is an image on disk, or, when the host lost
 * what ran, there are its files only, and the restore says so. RAM is let go in one place alone: `storing` × `store-done`, when the image has been sealed
 * and read back and nobody waits; and in a rewind, which does the same at a person's word while others wait.
 */
import type { InstanceState } from '@torpor/contracts';

export const STANDBY_STATES = [
  'creating',
  'running',
  'pausing',
  /** Asked for while it fell asleep: a pause cannot be cut short, so it wakes right after. */
  'pausing-then-wake',
  'paused',
  /** Asleep, its memory on its way to swap: that can be cut short at any time, so whoever needs it waits for nothing. */
  'leaning',
  'lean',
  'waking',
  /** Asleep in RAM, an image of it being written. */
  'storing',
  /** Asked for meanwhile: a save cannot be cut short, so it wakes as soon as the sandbox may be touched again. */
  'storing-then-wake',
  /** The image is whole: its RAM is being let go. */
  'releasing',
  'releasing-then-wake',
  'stored',
  /** Being made anew from its image. */
  'restoring',
  /** To live on another node: being put to sleep and stored for it, which gives way to nobody. Requests are held. */
  'leaving',
  /** All of it rests in its images, here and perhaps elsewhere; nothing wakes it until it is known where it lives. */
  'travelling',
  'fencing',
  /** Fenced while in use: a renewed lease wakes it. */
  'fenced',
  /** Fenced while asleep: a renewed lease leaves it asleep. */
  'fenced-asleep',
  /** Fenced while one of these was under way, which goes on: nothing runs during the first three, and what the last wakes is frozen at once. */
  'leaning-fenced',
  'storing-fenced',
  'releasing-fenced',
  'restoring-fenced',
  'leaving-fenced',
  /** Stored needs no freezer, only to be left alone. */
  'fenced-stored',
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
  /** … or what the journal says, where the host runs nothing of it: there is an image, or at least its files. */
  'found-stored',
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
  /** It has slept for a while, the host wants the RAM, or a person asked. */
  'lean-due',
  'lean-done',
  /** There is no swap, or no more room in it: what is still in RAM stays there. */
  'lean-failed',
  /** It has slept in RAM for long enough, the host wants the RAM, or a person asked. */
  'store-due',
  /** The image is sealed, and was read back and compared. */
  'store-done',
  'store-failed',
  /** The store gave way to a queued wake as soon as it could; there is no new image. */
  'store-cut',
  'release-done',
  'release-failed',
  /** A wake came before anything had been let go. */
  'release-cut',
  /** From its image, an older one, or its files: the engine says which. */
  'restore-done',
  'restore-failed',
  /** An image of it as it is now, and then on as before. */
  'snapshot-asked',
  /** Back to what a snapshot holds; what it is now is stored first. */
  'rewind-asked',
  /** It is to live on another node. */
  'leave-asked',
  'leave-done',
  /** It is awake, or asleep in RAM, as it was. */
  'leave-cut',
  /** Its RAM was let go already: it is stored. */
  'leave-failed',
  /** It lives here after all. */
  'stay-asked',
  /** … found so after a restart. */
  'found-travelling',
  'lease-lost',
  'lease-renewed',
  /** Nothing of it is left but its files as they were then. */
  'process-died',
  /** The same, but there is an image to fall back to, or it died of being stored: by our own doing. */
  'died-with-image',
  'delete-asked',
  'destroy-done',
  'destroy-failed',
] as const;
export type Happening = (typeof HAPPENINGS)[number];

export const EFFECTS = [
  'pause',
  'wake',
  /** Gives way to whatever comes behind it. */
  'lean',
  'store',
  'release',
  'restore',
  /** A pause, with an image made of it while it sleeps; ends as a pause does. */
  'snapshot',
  /** A pause, a store that gives way to nobody, and a release, after which it is to come back as something older; ends as a release does. */
  'rewind',
  /** As a rewind; but then it is to be what it is, elsewhere. */
  'leave',
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

/** The end of a page-out that whatever came behind it has cut short. */
const LEANED = { 'lean-done': 'stay', 'lean-failed': 'stay' } as const;

/** An operation's end that arrives after the state has moved on; the next operation in line sets it right. */
const LATE = {
  ...LEANED,
  'pause-done': 'stay',
  'pause-failed': 'stay',
  'wake-done': 'stay',
  'wake-failed': 'stay',
  'store-done': 'stay',
  'store-failed': 'stay',
  'store-cut': 'stay',
  'release-done': 'stay',
  'release-failed': 'stay',
  'release-cut': 'stay',
  'restore-done': 'stay',
  'restore-failed': 'stay',
  'leave-done': 'stay',
  'leave-cut': 'stay',
  'leave-failed': 'stay',
} as const;

/** What means nothing to an instance that is busy with something else, or already there. */
const IDLY = { 'idle-passed': 'stay', 'pause-asked': 'stay', 'lean-due': 'stay', 'store-due': 'stay' } as const;

/** Ends that a state may meet whatever it does. */
const DIES: Row = {
  'process-died': ['failed', 'turn-away', 'end-streams'],
  'died-with-image': ['stored', 'turn-away', 'end-streams'],
};
/** Who waits is let in after all, to what the image holds. */
const DIES_AWAITED: Row = { ...DIES, 'died-with-image': ['restoring', 'end-streams', 'restore'] };
const DIES_FENCED: Row = { ...DIES, 'died-with-image': ['fenced-stored', 'turn-away', 'end-streams'] };
/** Nothing of it runs, or what does is the operation's own affair. */
const NOTHING_DIES = { 'process-died': 'stay', 'died-with-image': 'stay' } as const;
const DELETED: Row = { 'delete-asked': ['deleting', 'turn-away', 'end-streams', 'destroy'] };

export const STANDBY_TABLE: Readonly<Record<StandbyState, Row>> = {
  creating: {
    'create-done': ['running', 'let-in'],
    'create-failed': ['deleting', 'turn-away', 'destroy'],
    'found-running': ['running'],
    'found-frozen': ['paused'],
    'found-stored': ['stored'],
    'found-travelling': ['travelling'],
    'request-arrived': 'stay',
    ...IDLY,
    'lease-lost': 'stay', // The engine says it again after create-done.
    'lease-renewed': 'stay',
    'process-died': ['failed', 'turn-away', 'end-streams'],
    ...DELETED,
  },
  running: {
    'request-arrived': ['running', 'let-in'],
    'idle-passed': ['pausing', 'pause'],
    'pause-asked': ['pausing', 'pause'],
    'lean-due': 'stay', // Whoever wants it lean or stored puts it to sleep first.
    'store-due': 'stay',
    'snapshot-asked': ['pausing-then-wake', 'snapshot'],
    'rewind-asked': ['releasing-then-wake', 'rewind'],
    'leave-asked': ['leaving', 'leave'],
    'lease-lost': ['fencing', 'end-streams', 'pause'],
    'lease-renewed': 'stay',
    ...DIES,
    ...DELETED,
  },
  pausing: {
    ...LEANED,
    'request-arrived': ['pausing-then-wake'],
    ...IDLY,
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
    ...LEANED,
    'request-arrived': 'stay',
    ...IDLY,
    'pause-asked': ['pausing', 'turn-away'],
    'pause-done': ['waking', 'wake'],
    'pause-failed': ['waking', 'wake'],
    'wake-done': 'stay',
    'wake-failed': 'stay',
    'lease-lost': ['fencing', 'turn-away', 'end-streams'],
    'lease-renewed': 'stay',
    ...DIES_AWAITED,
    ...DELETED,
  },
  paused: {
    'request-arrived': ['waking', 'wake'],
    'idle-passed': 'stay',
    'pause-asked': 'stay',
    'lean-due': ['leaning', 'lean'],
    'store-due': ['storing', 'store'],
    'snapshot-asked': ['pausing', 'snapshot'],
    'rewind-asked': ['releasing-then-wake', 'rewind'],
    'leave-asked': ['leaving', 'leave'],
    'lease-lost': ['fenced-asleep', 'end-streams'],
    'lease-renewed': 'stay',
    ...DIES,
    ...DELETED,
  },
  leaning: {
    ...IDLY,
    'request-arrived': ['waking', 'wake'],
    'lean-done': ['lean'],
    'lean-failed': ['paused'],
    'store-due': ['storing', 'store'],
    'snapshot-asked': ['pausing', 'snapshot'],
    'rewind-asked': ['releasing-then-wake', 'rewind'],
    'leave-asked': ['leaving', 'leave'],
    'lease-lost': ['leaning-fenced', 'end-streams'],
    'lease-renewed': 'stay',
    ...DIES,
    ...DELETED,
  },
  lean: {
    'request-arrived': ['waking', 'wake'],
    'idle-passed': 'stay',
    'pause-asked': 'stay',
    'lean-due': 'stay',
    'store-due': ['storing', 'store'], // A save reads all of it back: one that fails leaves it paused.
    'snapshot-asked': ['pausing', 'snapshot'],
    'rewind-asked': ['releasing-then-wake', 'rewind'],
    'leave-asked': ['leaving', 'leave'],
    'lease-lost': ['fenced-asleep', 'end-streams'],
    'lease-renewed': 'stay',
    ...DIES,
    ...DELETED,
  },
  waking: {
    ...LEANED,
    'request-arrived': 'stay',
    ...IDLY, // Somebody waits for this wake; a person may ask again.
    'wake-done': ['running', 'let-in'],
    'wake-failed': ['paused', 'turn-away'], // Nothing is lost: the next request tries again.
    'pause-done': 'stay',
    'pause-failed': 'stay',
    'lease-lost': ['fencing', 'turn-away', 'end-streams', 'pause'],
    'lease-renewed': 'stay',
    ...DIES_AWAITED,
    ...DELETED,
  },
  storing: {
    ...LEANED,
    ...IDLY,
    'request-arrived': ['storing-then-wake'],
    'store-done': ['releasing', 'release'],
    'store-failed': ['paused'],
    'lease-lost': ['storing-fenced', 'end-streams'],
    'lease-renewed': 'stay',
    ...DIES,
    ...DELETED,
  },
  'storing-then-wake': {
    ...LEANED,
    ...IDLY,
    'request-arrived': 'stay',
    'pause-asked': ['storing', 'turn-away'],
    'store-done': ['waking', 'wake'],
    'store-failed': ['waking', 'wake'],
    'store-cut': ['waking', 'wake'],
    'lease-lost': ['storing-fenced', 'turn-away', 'end-streams'],
    'lease-renewed': 'stay',
    ...DIES_AWAITED,
    ...DELETED,
  },
  releasing: {
    ...LEANED,
    ...IDLY,
    'request-arrived': ['releasing-then-wake'],
    'release-done': ['stored'],
    'release-failed': ['releasing', 'release'],
    'release-cut': ['waking', 'wake'], // A rewind that failed: it is as it was, and falls asleep by itself.
    'lease-lost': ['releasing-fenced', 'end-streams'],
    'lease-renewed': 'stay',
    ...NOTHING_DIES,
    ...DELETED,
  },
  'releasing-then-wake': {
    ...LEANED,
    ...IDLY,
    'request-arrived': 'stay',
    'pause-asked': ['releasing', 'turn-away'],
    'release-done': ['restoring', 'restore'],
    'release-failed': ['releasing-then-wake', 'release'],
    'release-cut': ['waking', 'wake'],
    'lease-lost': ['releasing-fenced', 'turn-away', 'end-streams'],
    'lease-renewed': 'stay',
    ...NOTHING_DIES,
    ...DELETED,
  },
  stored: {
    ...IDLY,
    'request-arrived': ['restoring', 'restore'],
    'leave-asked': ['leaving', 'leave'],
    ...LATE,
    'lease-lost': ['fenced-stored', 'end-streams'],
    'lease-renewed': 'stay',
    ...NOTHING_DIES,
    ...DELETED,
  },
  restoring: {
    ...IDLY, // Somebody waits for this wake; a person may ask again.
    'request-arrived': 'stay',
    ...LATE,
    'restore-done': ['running', 'let-in'],
    'restore-failed': ['stored', 'turn-away'], // Nothing is lost: the next request tries again.
    'lease-lost': ['restoring-fenced', 'turn-away', 'end-streams'],
    'lease-renewed': 'stay',
    ...NOTHING_DIES,
    ...DELETED,
  },
  leaving: {
    ...IDLY,
    ...LATE, // One whose process died may be stored, and leave, before it is heard that its pause came to nothing.
    'request-arrived': 'stay',
    'leave-done': ['travelling'],
    'leave-cut': ['waking', 'wake'],
    'leave-failed': ['stored'],
    'lease-lost': ['leaving-fenced', 'turn-away', 'end-streams'],
    'lease-renewed': 'stay',
    ...NOTHING_DIES,
    ...DELETED,
  },
  travelling: {
    ...IDLY,
    ...LATE,
    'request-arrived': 'stay',
    'stay-asked': ['stored'],
    'lease-lost': ['travelling', 'turn-away', 'end-streams'], // Nothing of it runs, and nothing wakes it.
    'lease-renewed': 'stay',
    ...NOTHING_DIES,
    ...DELETED,
  },
  fencing: {
    ...LEANED,
    'request-arrived': ['fencing', 'turn-away'],
    ...IDLY,
    'pause-done': ['fenced'],
    'pause-failed': ['fencing', 'pause'],
    'wake-done': 'stay',
    'wake-failed': 'stay',
    'lease-lost': 'stay',
    'lease-renewed': ['pausing-then-wake'],
    ...DIES_FENCED,
    ...DELETED,
  },
  fenced: {
    ...LEANED,
    'request-arrived': ['fenced', 'turn-away'],
    ...IDLY,
    'pause-asked': ['fenced-asleep'],
    'lease-lost': 'stay',
    'lease-renewed': ['waking', 'wake'],
    ...DIES_FENCED,
    ...DELETED,
  },
  'fenced-asleep': {
    'request-arrived': ['fenced-asleep', 'turn-away'],
    ...IDLY,
    'lease-lost': 'stay',
    'lease-renewed': ['paused'],
    ...DIES_FENCED,
    ...DELETED,
  },
  'leaning-fenced': {
    ...IDLY,
    'request-arrived': ['leaning-fenced', 'turn-away'],
    'lean-done': ['fenced-asleep'],
    'lean-failed': ['fenced-asleep'],
    'lease-lost': 'stay',
    'lease-renewed': ['leaning'],
    ...DIES_FENCED,
    ...DELETED,
  },
  'storing-fenced': {
    ...LEANED,
    ...IDLY,
    'request-arrived': ['storing-fenced', 'turn-away'],
    'store-done': ['fenced-asleep'],
    'store-failed': ['fenced-asleep'],
    'lease-lost': 'stay',
    'lease-renewed': ['storing'],
    ...DIES_FENCED,
    ...DELETED,
  },
  'releasing-fenced': {
    ...LEANED,
    ...IDLY,
    'request-arrived': ['releasing-fenced', 'turn-away'],
    'release-done': ['fenced-stored'],
    'release-failed': ['releasing-fenced', 'release'],
    'release-cut': ['fencing', 'pause'],
    'lease-lost': 'stay',
    'lease-renewed': ['releasing'],
    ...NOTHING_DIES,
    ...DELETED,
  },
  'restoring-fenced': {
    ...IDLY,
    'request-arrived': ['restoring-fenced', 'turn-away'],
    ...LATE,
    'restore-done': ['fencing', 'pause'],
    'restore-failed': ['fenced-stored'],
    'lease-lost': 'stay',
    'lease-renewed': ['restoring'],
    ...NOTHING_DIES,
    ...DELETED,
  },
  'leaving-fenced': {
    ...IDLY,
    ...LATE,
    'request-arrived': ['leaving-fenced', 'turn-away'],
    'leave-done': ['travelling'],
    'leave-cut': ['fencing', 'pause'],
    'leave-failed': ['fenced-stored'],
    'lease-lost': 'stay',
    'lease-renewed': ['leaving'],
    ...NOTHING_DIES,
    ...DELETED,
  },
  'fenced-stored': {
    ...IDLY,
    'request-arrived': ['fenced-stored', 'turn-away'],
    ...LATE,
    'lease-lost': 'stay',
    'lease-renewed': ['stored'],
    ...NOTHING_DIES,
    ...DELETED,
  },
  deleting: {
    'create-done': 'stay', // Deleted while it was made: the destruction waits in line behind the making.
    'create-failed': 'stay',
    'request-arrived': ['deleting', 'turn-away'],
    ...IDLY,
    ...LATE,
    'lease-lost': 'stay',
    'lease-renewed': 'stay',
    ...NOTHING_DIES,
    'delete-asked': 'stay',
    'destroy-done': ['deleted'],
    'destroy-failed': ['deleting', 'destroy'],
  },
  deleted: {
    'request-arrived': ['deleted', 'turn-away'],
    ...IDLY,
    ...LATE,
    'lease-lost': 'stay',
    'lease-renewed': 'stay',
    ...NOTHING_DIES,
    'delete-asked': 'stay',
  },
  failed: {
    'create-done': 'stay',
    'create-failed': 'stay',
    'request-arrived': ['failed', 'turn-away'],
    ...IDLY,
    ...LATE,
    'lease-lost': 'stay',
    'lease-renewed': 'stay',
    ...NOTHING_DIES,
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
    case 'leaning':
    case 'leaning-fenced':
    case 'fenced':
    case 'fenced-asleep':
      return 'paused';
    case 'storing-then-wake':
    case 'releasing':
    case 'releasing-then-wake':
    case 'storing-fenced':
    case 'releasing-fenced':
    case 'leaving':
    case 'leaving-fenced':
      return 'storing';
    case 'fenced-stored':
    case 'travelling':
      return 'stored';
    case 'restoring-fenced':
      return 'restoring';
    case 'creating':
    case 'running':
    case 'pausing':
    case 'paused':
    case 'lean':
    case 'waking':
    case 'storing':
    case 'stored':
    case 'restoring':
    case 'deleting':
    case 'deleted':
    case 'failed':
      return state;
  }
}

/** Whether all of it is in RAM or swap, and so would be lost with its process. */
export function isInRam(state: StandbyState): boolean {
  switch (state) {
    case 'running':
    case 'pausing':
    case 'pausing-then-wake':
    case 'paused':
    case 'leaning':
    case 'leaning-fenced':
    case 'lean':
    case 'waking':
    case 'storing':
    case 'storing-then-wake':
    case 'fencing':
    case 'fenced':
    case 'fenced-asleep':
    case 'storing-fenced':
      return true;
    default:
      return false;
  }
}

/** Asleep with its process at hand: to be woken, stored or gone back from at once. */
export function restsInRam(state: StandbyState): state is 'paused' | 'leaning' | 'lean' {
  return state === 'paused' || state === 'leaning' || state === 'lean';
}

/** What does not fit into the words of the contracts: somebody waits for an operation that cannot be cut short. */
export function hasQueuedWake(state: StandbyState): boolean {
  return state === 'pausing-then-wake' || state === 'storing-then-wake' || state === 'releasing-then-wake';
}
