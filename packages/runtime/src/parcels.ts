/**
 * Parcels: images as files, on their way between nodes. What is in them is sealed under the image's key, so whoever carries them learns nothing but sizes.
 */
import { Failure } from '@torpor/kernel';
import { createReadStream, createWriteStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { z } from 'zod';

export const ParcelContents = z.object({
  /** Names are of the alphabet of file names, without slashes. */
  files: z.array(z.object({ name: z.string().regex(/^[a-z][a-z_.]{0,62}$/), bytes: z.number().int().min(0) })),
  /** Of the tree of files that the disk is. */
  diskDigest: z.string(),
  /** The disk's limit, and what it takes. */
  diskMib: z.number(),
  diskUsedMib: z.number(),
});
export const Parcel = ParcelContents.extend({ image: z.string().regex(/^[a-z0-9][a-z0-9-]{7,62}$/) });
export type Parcel = z.infer<typeof Parcel>;

/** The files of parcels on this host. Names are of `Parcel`'s alphabets. */
export interface ParcelFiles {
  /** Makes a place for the files of one that comes. Throws `no_space` when the host has not what unpacking it will take. */
  open(image: string, needMib: number): Promise<void>;
  /** How much of a file is there, bytes. */
  size(image: string, file: string): Promise<number>;
  /** From an offset on. */
  read(image: string, file: string, from: number): Promise<Readable>;
  /** Goes on from where the file ends. */
  append(image: string, file: string): Promise<Writable>;
}

/** In directories, one for each parcel, that `placeOf` knows and `open` makes. */
export function parcelDirectories(placeOf: {
  open(image: string, needMib: number): Promise<string>;
  known(image: string): string | undefined;
}): ParcelFiles {
  const pathOf = (image: string, file: string) => {
    const directory = placeOf.known(image);
    if (directory === undefined) throw new Failure('not_found', `there is no parcel of image ${image} here`);
    return join(directory, file);
  };
  return {
    open: async (image, needMib) => void (await placeOf.open(image, needMib)),
    size: async (image, file) => (await stat(pathOf(image, file)).catch(() => undefined))?.size ?? 0, // not begun yet
    read: async (image, file, from) => createReadStream(pathOf(image, file), { start: from }),
    append: async (image, file) => createWriteStream(pathOf(image, file), { flags: 'a' }),
  };
}
