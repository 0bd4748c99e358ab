/**
 * What is kept of one instance besides its RAM, as its journal's lines tell it: the images it sleeps in, whether the newest is what it is now, and the
 * snapshots, which are images that stay until somebody, or their own policy, lets them go. One image may be both. A disk that a fall-back replaced stays
 * as they do.
 */
import type { Census } from '@torpor/policy';
import type { NodeId } from '@torpor/contracts';
import type { HeldVolume, Line, SnapshotNote } from './lines.ts';

export interface KeptImage {
  readonly image: string;
  /** Its key, sealed under the node's. */
  readonly sealedKey: string;
  /** When its save began, ms since the epoch: what happened later is not in it. */
  readonly atMs: number;
  readonly bytes: number;
  /** What its memory takes in RAM. */
  readonly memoryBytes: number;
  /** What ran and listened, if anybody could say. */
  readonly census?: Census | undefined;
  /** Of one that came from another node: the generation that its guest believes in. */
  readonly generation?: number | undefined;
  /** The volumes that it holds. */
  readonly volumes?: readonly HeldVolume[] | undefined;
}

export interface KeptSnapshot extends KeptImage, SnapshotNote {}

/** A disk that a fall-back replaced, with the volumes of its instance: its files, and no memory. Whoever goes back to it starts anew on these. */
export interface KeptDisk {
  readonly image: string;
  readonly name?: string | undefined;
  readonly because: 'fall-back';
  readonly by?: undefined;
  /** When it was put aside, ms since the epoch. */
  readonly atMs: number;
  readonly volumes?: readonly HeldVolume[] | undefined;
}

/** What an instance may go back to, and what may be made of it anew. */
export type Kept = KeptSnapshot | KeptDisk;

type Begun = Omit<KeptImage, 'bytes' | 'memoryBytes'>;

export interface Shelf {
  /** Whole ones, read back and compared, the oldest first. */
  readonly images: readonly KeptImage[];
  /** Likewise. */
  readonly snapshots: readonly KeptSnapshot[];
  /** Snapshots that were begun and neither ended nor given up when the journal ends. */
  readonly making: readonly (Begun & { readonly note: SnapshotNote })[];
  /** The last ones that came to nothing. */
  readonly unmade: readonly {
    readonly image: string;
    readonly atMs: number;
    readonly note: SnapshotNote;
    readonly reason: string;
  }[];
  /** Names that may exist on the host and are good for nothing: cut short, failed, or found damaged. */
  readonly trash: readonly string[];
  /** Disks that fall-backs have replaced, the oldest first. */
  readonly asides: readonly KeptDisk[];
  /** What else a fall-back has put aside, the oldest first: images that are whole and would not do, and names that a disk may bear. */
  readonly disks: readonly string[];
  /** How many images were ever begun. */
  readonly count: number;
  /**
   * Where all of it is that there is. `elsewhere`: in RAM, or lost. `image`: its RAM was let go, and the newest image and the disk beside it are all of it.
   * `image alone`: so it is, but a restore has begun over that disk, which must be brought back first.
   */
  readonly rests: 'elsewhere' | 'image' | 'image alone';
  /** Somebody wants to go back to this: a snapshot, which is the newest image then, or a disk. `rested`: where all of it was before. */
  readonly rewound: { readonly image: string; readonly rested: Shelf['rests'] } | undefined;
  /** What was begun and not ended when the journal ends. */
  readonly trying: Begun | undefined;
  /** A wake was begun and not ended: whatever runs was let in to by nobody. */
  readonly isComing: boolean;
  /** The node that it is on its way to: nothing wakes it here until that is settled. */
  readonly leaving: NodeId | undefined;
  /** What this wake puts the disk aside as, which was all of the files that there is. */
  readonly aside: KeptDisk | undefined;
}

export const EMPTY_SHELF: Shelf = {
  images: [],
  snapshots: [],
  making: [],
  unmade: [],
  trash: [],
  asides: [],
  disks: [],
  count: 0,
  rests: 'elsewhere',
  rewound: undefined,
  trying: undefined,
  isComing: false,
  aside: undefined,
  leaving: undefined,
};

const UNMADE_TOLD = 5;

/** Every name that must go when the instance does. */
export function namesOn(shelf: Shelf): string[] {
  const { images, snapshots, making, trash, asides, disks, trying } = shelf;
  const begun = trying ? [...making, trying] : making;
  const whole = [...images, ...snapshots, ...asides, ...begun].map(({ image }) => image);
  return [...new Set([...whole, ...trash, ...disks])];
}

/** As the next node-agent takes it over: snapshots that were being made when this one ended will not be. */
export function takenOver(shelf: Shelf): Shelf {
  return shelf.making.reduce(
    (so, { image }) => unmade(so, image, 'the node-agent ended while it was being made'),
    shelf,
  );
}

export function shelfAfter(shelf: Shelf, line: Line): Shelf {
  switch (line.kind) {
    case 'intent':
      return begun(shelf, line);
    case 'done':
      return ended(shelf, line);
    case 'unmade':
      return unmade(shelf, line.image, line.reason);
    case 'kept': {
      const kept = shelf.images.find(({ image }) => image === line.image);
      const others = shelf.snapshots.filter(({ image }) => image !== line.image);
      return kept ? { ...shelf, snapshots: [...others, { ...kept, ...line.note }] } : shelf;
    }
    case 'unkept': {
      const isOther = ({ image }: { readonly image: string }) => image !== line.image;
      const [snapshots, asides] = [shelf.snapshots.filter(isOther), shelf.asides.filter(isOther)];
      const isSleptIn = !shelf.images.every(isOther);
      return { ...shelf, snapshots, asides, trash: isSleptIn ? shelf.trash : [...shelf.trash, line.image] };
    }
    case 'rewound':
      return rewound(shelf, line.image);
    case 'damaged': {
      // Where it was to go back to is gone, and where it was is not.
      const isAsBefore = shelf.rewound?.image === line.image && shelf.rewound.rested !== 'elsewhere';
      return { ...refused(shelf, line), rests: isAsBefore ? 'image alone' : 'elsewhere', rewound: undefined };
    }
    case 'remains':
      return remaining(shelf, line.images);
    case 'died':
      return { ...(line.ofItself ? outlivedByFiles(shelf) : shelf), rests: 'elsewhere' };
    case 'arrived': {
      const { images, count } = line;
      const snapshots = line.snapshots.map(({ note, ...kept }) => ({ ...kept, ...note }));
      const asides = (line.asides ?? []).map((one) => ({ ...one, because: 'fall-back' as const }));
      return { ...shelf, images, snapshots, asides, count, trash: [], rests: 'image alone' };
    }
    case 'lives':
      return { ...shelf, rests: 'elsewhere', rewound: undefined, isComing: false, aside: undefined };
    default:
      return shelf;
  }
}

/** When everything else of its instance is gone. */
export function remaining({ snapshots, count }: Shelf, images: readonly string[]): Shelf {
  return { ...EMPTY_SHELF, count, snapshots: snapshots.filter(({ image }) => images.includes(image)) };
}

function rewound(shelf: Shelf, to: string): Shelf {
  const snapshot = shelf.snapshots.find(({ image }) => image === to);
  if (!snapshot && !shelf.asides.some(({ image }) => image === to)) return shelf;
  const { rests } = shelf;
  return {
    ...shelf,
    images: snapshot ? [...shelf.images.filter(({ image }) => image !== to), snapshot] : shelf.images,
    rests: rests === 'elsewhere' ? rests : 'image alone',
    rewound: { image: to, rested: rests },
  };
}

function refused(shelf: Shelf, { image, isWhole = false }: Extract<Line, { kind: 'damaged' }>): Shelf {
  const isKept = [...shelf.snapshots, ...shelf.asides].some((one) => one.image === image);
  // It stays what somebody may go back to; nobody falls back to it.
  if (isWhole && isKept) return { ...shelf, images: shelf.images.filter((one) => one.image !== image) };
  const rest = dropped(shelf, [image]);
  return isWhole ? { ...rest, disks: [...rest.disks, image] } : { ...rest, trash: [...rest.trash, image] };
}

/** Its files are newer than any image, and it goes on from them; what it was may still be gone back to. */
function outlivedByFiles(shelf: Shelf): Shelf {
  const { images, snapshots } = shelf;
  const fresh = images.filter(({ image }) => snapshots.every((one) => one.image !== image));
  const kept = fresh.map((image) => ({ ...image, because: 'death' as const }));
  return { ...shelf, images: [], snapshots: [...snapshots, ...kept], rewound: undefined };
}

function begun(shelf: Shelf, line: Extract<Line, { kind: 'intent' }>): Shelf {
  switch (line.operation) {
    case 'store': {
      const { image, sealedKey, atMs, census, volumes } = line;
      const trash = shelf.trying ? [...shelf.trash, shelf.trying.image] : shelf.trash;
      return { ...shelf, trash, count: shelf.count + 1, trying: { image, sealedKey, atMs, census, volumes } };
    }
    case 'snapshot': {
      const { image, sealedKey, atMs, note, census, volumes } = line;
      const making = [...shelf.making, { image, sealedKey, atMs, note, census, volumes }];
      return { ...shelf, count: shelf.count + 1, making };
    }
    case 'release':
      return { ...shelf, rests: 'image' }; // Nothing happens in it from here on, unless a `lives` follows.
    case 'restore': {
      const isNewest = line.image === shelf.images.at(-1)?.image;
      const rests = shelf.rests !== 'elsewhere' && isNewest ? 'image alone' : 'elsewhere';
      return { ...puttingAside(shelf, line), rests, isComing: true };
    }
    case 'boot':
      return { ...puttingAside(shelf, line), rests: 'elsewhere', isComing: true };
    case 'leave':
      return { ...shelf, leaving: line.to };
    case 'stay':
      return { ...shelf, leaving: undefined };
    case 'arrive':
      return { ...shelf, trash: [...line.images] };
    default:
      return shelf;
  }
}

function ended(shelf: Shelf, line: Extract<Line, { kind: 'done' }>): Shelf {
  switch (line.operation) {
    case 'store': {
      if (!shelf.trying) return shelf;
      const { bytes, memoryBytes = bytes } = line;
      return { ...shelf, images: [...shelf.images, { ...shelf.trying, bytes, memoryBytes }], trying: undefined };
    }
    case 'snapshot': {
      const made = shelf.making.find(({ image }) => image === line.image);
      if (!made) return shelf;
      const { note, ...rest } = made;
      const { bytes, memoryBytes } = line;
      const making = shelf.making.filter((one) => one !== made);
      return { ...shelf, making, snapshots: [...shelf.snapshots, { ...rest, ...note, bytes, memoryBytes }] };
    }
    case 'restore':
      return awake(provenNewest(putAside(shelf)));
    case 'boot':
      // What a fall-back had put aside is what it goes on with, unless it was asked to go back to another disk.
      return awake(begunAnew(shelf.rewound ? putAside(shelf) : shelf));
    case 'forget':
      return dropped(shelf, line.images);
    default:
      return shelf;
  }
}

function awake(shelf: Shelf): Shelf {
  return { ...shelf, rests: 'elsewhere', rewound: undefined, isComing: false, aside: undefined };
}

function puttingAside(
  shelf: Shelf,
  { keep, keepName, volumes, atMs }: Extract<Line, { kind: 'intent'; operation: 'restore' | 'boot' }>,
): Shelf {
  if (keep === undefined) return shelf;
  const named = keepName === undefined ? {} : { name: keepName };
  const aside = { image: keep, ...named, because: 'fall-back', atMs, volumes } as const;
  return { ...shelf, disks: [...shelf.disks, keep], aside };
}

function putAside(shelf: Shelf): Shelf {
  const { aside } = shelf;
  if (!aside) return shelf;
  return { ...shelf, asides: [...shelf.asides, aside], disks: shelf.disks.filter((name) => name !== aside.image) };
}

/** No image is of what it is from now on: those that are snapshots are only that, the others are good for nothing. So is a disk that has been put back. */
function begunAnew(shelf: Shelf): Shelf {
  const isSnapshot = ({ image }: KeptImage) => shelf.snapshots.some((one) => one.image === image);
  const old = shelf.images.filter((one) => !isSnapshot(one)).map(({ image }) => image);
  const back = shelf.disks.filter((name) => name === shelf.aside?.image);
  const disks = shelf.disks.filter((name) => !back.includes(name));
  return { ...shelf, images: [], disks, trash: [...shelf.trash, ...old, ...back] };
}

function unmade(shelf: Shelf, image: string, reason: string): Shelf {
  const given = shelf.making.find((one) => one.image === image);
  if (!given) return shelf;
  const { atMs, note } = given;
  const making = shelf.making.filter((one) => one !== given);
  const told = [...shelf.unmade, { image, atMs, note, reason }].slice(-UNMADE_TOLD);
  return { ...shelf, making, unmade: told, trash: [...shelf.trash, image] };
}

/** It has woken from its newest image, so nobody falls back to an older one any more: those that are snapshots are only that from now on. */
function provenNewest(shelf: Shelf): Shelf {
  const newest = shelf.images.at(-1);
  const isSnapshot = ({ image }: KeptImage) => shelf.snapshots.some((one) => one.image === image);
  return { ...shelf, images: shelf.images.filter((one) => one === newest || !isSnapshot(one)) };
}

function dropped(shelf: Shelf, names: readonly string[]): Shelf {
  const goes = (name: string) => names.includes(name);
  const stays = ({ image }: { image: string }) => !goes(image);
  return {
    ...shelf,
    images: shelf.images.filter(stays),
    snapshots: shelf.snapshots.filter(stays),
    asides: shelf.asides.filter(stays),
    making: shelf.making.filter(stays),
    trash: shelf.trash.filter((name) => !goes(name)),
    disks: shelf.disks.filter((name) => !goes(name)),
    trying: shelf.trying && goes(shelf.trying.image) ? undefined : shelf.trying,
  };
}

/**
 * What need not be kept: whatever is older than the image that a wake has proven (snapshots are not, see `provenNewest`), and rubbish. What a fall-back has
 * put aside is neither: it may be all that is left of what was lost.
 */
export function spare(shelf: Shelf, proven: string | undefined): string[] {
  const at = shelf.images.findIndex(({ image }) => image === proven);
  const older = at < 0 ? [] : shelf.images.slice(0, at).map(({ image }) => image);
  const trying = shelf.trying ? [shelf.trying.image] : [];
  return [...older, ...shelf.trash, ...trying];
}
