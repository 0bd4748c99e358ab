/**
 * What a soaked sandbox must have at a moment, predicted: a pure record of what was done to it, from which every byte of its memory and files follows.
 * Its program (`subject.ts`) makes the same of the same words.
 */
import { createHash } from 'node:crypto';

export const MEMORY_MIB = 8;
export const BLOCK_BYTES = 1 << 16;
export const BLOCKS = (MEMORY_MIB << 20) / BLOCK_BYTES;

export const PLACES = ['disk', 'volume', 'tmpfs'] as const;
export type Place = (typeof PLACES)[number];

/** One change. Files are synced or left to the kernel. */
export type Deed =
  | { readonly kind: 'remember'; readonly block: number; readonly word: string }
  | {
      readonly kind: 'write';
      readonly place: Place;
      readonly name: string;
      readonly word: string;
      readonly bytes: number;
      readonly sync: boolean;
    }
  | { readonly kind: 'remove'; readonly place: Place; readonly name: string }
  | { readonly kind: 'start'; readonly name: string }
  | { readonly kind: 'end'; readonly name: string };

interface KnownFile {
  readonly word: string;
  readonly bytes: number;
  /** It, and its name, were on the disk before the program said so. */
  readonly isSynced: boolean;
}

export interface Known {
  /** Of the last thing done to it; never reused, so what a sandbox says was done last tells which of several pasts it comes from. */
  readonly id: string;
  readonly seed: string;
  /** Words by the block of memory that was filled from them since the start. */
  readonly blocks: ReadonlyMap<number, string>;
  readonly files: Readonly<Record<Place, ReadonlyMap<string, KnownFile>>>;
  readonly children: ReadonlySet<string>;
}

/** As the program tells it. */
export interface Told {
  readonly last: string;
  readonly memory: string;
  readonly files: Readonly<Record<Place, Readonly<Record<string, string>>>>;
  readonly children: readonly string[];
}

export function born(seed: string): Known {
  return {
    id: seed,
    seed,
    blocks: new Map(),
    files: { disk: new Map(), volume: new Map(), tmpfs: new Map() },
    children: new Set(),
  };
}

export function after(known: Known, id: string, deed: Deed): Known {
  const now = { ...known, id };
  switch (deed.kind) {
    case 'remember':
      return { ...now, blocks: new Map(known.blocks).set(deed.block, deed.word) };
    case 'write':
      return withFiles(
        now,
        deed.place,
        new Map(known.files[deed.place]).set(deed.name, { word: deed.word, bytes: deed.bytes, isSynced: deed.sync }),
      );
    case 'remove': {
      const rest = new Map(known.files[deed.place]);
      rest.delete(deed.name);
      return withFiles(now, deed.place, rest);
    }
    case 'start':
      return { ...now, children: new Set(known.children).add(deed.name) };
    case 'end':
      return { ...now, children: new Set([...known.children].filter((name) => name !== deed.name)) };
  }
}

function withFiles(known: Known, place: Place, files: ReadonlyMap<string, KnownFile>): Known {
  return { ...known, files: { ...known.files, [place]: files } };
}

export function predicted(known: Known): Told {
  const memory = stream(known.seed, MEMORY_MIB << 20);
  for (const [block, word] of known.blocks) stream(word, BLOCK_BYTES).copy(memory, block * BLOCK_BYTES);
  return {
    last: known.id,
    memory: sha256(memory),
    files: {
      disk: hashes(known.files.disk),
      volume: hashes(known.files.volume),
      tmpfs: hashes(known.files.tmpfs),
    },
    children: [...known.children].toSorted(),
  };
}

/** Files that no death may take, and no cut of the power, with their hashes. */
export function synced(known: Known, place: 'disk' | 'volume'): Record<string, string> {
  return hashes(new Map([...known.files[place]].filter(([, { isSynced }]) => isSynced)));
}

/** How much of it a comparison has looked at. */
export function bytesOf(known: Known): number {
  const files = PLACES.flatMap((place) => [...known.files[place].values()]);
  return files.reduce((sum, { bytes }) => sum + bytes, MEMORY_MIB << 20);
}

function hashes(files: ReadonlyMap<string, KnownFile>): Record<string, string> {
  return Object.fromEntries([...files].map(([name, { word, bytes }]) => [name, sha256(stream(word, bytes))]));
}

/** Incompressible, and the same for the same word. */
function stream(word: string, bytes: number): Buffer {
  return createHash('shake128', { outputLength: bytes }).update(word).digest();
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
