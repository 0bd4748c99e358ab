/** What is kept of one instance besides its RAM, as its journal's lines tell it: its images, and whether the newest is what it is now. */
import type { Census } from '@torpor/policy';
import type { Line } from './lines.ts';

export interface KeptImage {
  readonly image: string;
  /** Its key, sealed under the node's. */
  readonly sealedKey: string;
  /** When its save began, ms since the epoch: what happened later is not in it. */
  readonly atMs: number;
  readonly bytes: number;
  /** What ran and listened, if anybody could say. */
  readonly census?: Census | undefined;
}

export interface Shelf {
  /** Whole ones, read back and compared, the oldest first. */
  readonly images: readonly KeptImage[];
  /** Names that may exist on the host and are good for nothing: cut short, failed, or found damaged. */
  readonly trash: readonly string[];
  /** What a fall-back has put aside, the oldest first: disks as they were, without memory, and images that are whole and would not do. */
  readonly disks: readonly string[];
  /** How many images were ever begun. */
  readonly count: number;
  /**
   * Where all of it is that there is. `elsewhere`: in RAM, or lost. `image`: its RAM was let go, and the newest image and the disk beside it are all of it.
   * `image alone`: so it is, but a restore has begun over that disk, which must be brought back first.
   */
  readonly rests: 'elsewhere' | 'image' | 'image alone';
  /** What was begun and not ended when the journal ends. */
  readonly trying: Omit<KeptImage, 'bytes'> | undefined;
  /** A wake that was begun and not ended. From an image, what runs is it; from files it may not yet know who it is. */
  readonly coming: 'from image' | 'from files' | undefined;
  /** The name that this wake has put the disk aside under, which was all of the files that there is. */
  readonly aside: string | undefined;
}

export const EMPTY_SHELF: Shelf = {
  images: [],
  trash: [],
  disks: [],
  count: 0,
  rests: 'elsewhere',
  trying: undefined,
  coming: undefined,
  aside: undefined,
};

/** Every name that must go when the instance does. */
export function namesOn(shelf: Shelf): string[] {
  const names = [...shelf.images.map(({ image }) => image), ...shelf.trash, ...shelf.disks];
  return shelf.trying ? [...names, shelf.trying.image] : names;
}

export function shelfAfter(shelf: Shelf, line: Line): Shelf {
  switch (line.kind) {
    case 'intent':
      return begun(shelf, line);
    case 'done':
      return ended(shelf, line);
    case 'damaged':
      return { ...refused(shelf, line), rests: 'elsewhere' };
    case 'died':
      return { ...shelf, rests: 'elsewhere' };
    case 'lives':
      return { ...shelf, rests: 'elsewhere', coming: undefined, aside: undefined };
    default:
      return shelf;
  }
}

function refused(shelf: Shelf, { image, isWhole = false }: Extract<Line, { kind: 'damaged' }>): Shelf {
  const rest = dropped(shelf, [image]);
  return isWhole ? { ...rest, disks: [...rest.disks, image] } : { ...rest, trash: [...rest.trash, image] };
}

function begun(shelf: Shelf, line: Extract<Line, { kind: 'intent' }>): Shelf {
  switch (line.operation) {
    case 'store': {
      const { image, sealedKey, atMs, census } = line;
      const trash = shelf.trying ? [...shelf.trash, shelf.trying.image] : shelf.trash;
      return { ...shelf, trash, count: shelf.count + 1, trying: { image, sealedKey, atMs, census } };
    }
    case 'release':
      return { ...shelf, rests: 'image' }; // Nothing happens in it from here on, unless a `lives` follows.
    case 'restore': {
      const disks = line.keep === undefined ? shelf.disks : [...shelf.disks, line.keep];
      const isNewest = line.image === shelf.images.at(-1)?.image;
      const rests = shelf.rests !== 'elsewhere' && isNewest ? 'image alone' : 'elsewhere';
      return { ...shelf, disks, rests, coming: 'from image', aside: line.keep ?? shelf.aside };
    }
    case 'boot':
      return { ...shelf, rests: 'elsewhere', coming: 'from files' };
    default:
      return shelf;
  }
}

function ended(shelf: Shelf, line: Extract<Line, { kind: 'done' }>): Shelf {
  switch (line.operation) {
    case 'store': {
      if (!shelf.trying) return shelf;
      return { ...shelf, images: [...shelf.images, { ...shelf.trying, bytes: line.bytes }], trying: undefined };
    }
    case 'restore':
    case 'boot':
      return { ...shelf, rests: 'elsewhere', coming: undefined, aside: undefined };
    case 'forget':
      return dropped(shelf, line.images);
    default:
      return shelf;
  }
}

function dropped(shelf: Shelf, names: readonly string[]): Shelf {
  const goes = (name: string) => names.includes(name);
  return {
    ...shelf,
    images: shelf.images.filter(({ image }) => !goes(image)),
    trash: shelf.trash.filter((name) => !goes(name)),
    disks: shelf.disks.filter((name) => !goes(name)),
    trying: shelf.trying && goes(shelf.trying.image) ? undefined : shelf.trying,
  };
}

/** A wake from there proves an image; the one before it was kept until then. */
const DISKS_KEPT = 2;

/** What need not be kept: whatever is older than the image that a wake has proven, rubbish, and all but the last that was put aside. */
export function spare(shelf: Shelf, proven: string | undefined): string[] {
  const at = shelf.images.findIndex(({ image }) => image === proven);
  const older = at < 0 ? [] : shelf.images.slice(0, at).map(({ image }) => image);
  const trying = shelf.trying ? [shelf.trying.image] : [];
  return [...older, ...shelf.trash, ...trying, ...shelf.disks.slice(0, -DISKS_KEPT)];
}
