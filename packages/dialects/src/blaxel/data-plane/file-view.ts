import type { GuestFile } from './guest-calls.ts';

/** A file as this dialect tells it. */
export interface BlaxelFile {
  readonly path: string;
  readonly name: string;
  /** Octal digits without a leading zero: `644`. */
  readonly permissions: string;
  readonly size: number;
  /** RFC 3339. */
  readonly lastModified: string;
  readonly owner: string;
  readonly group: string;
}

export interface BlaxelDirectory {
  readonly path: string;
  readonly name: string;
  readonly files: readonly BlaxelFile[];
  readonly subdirectories: readonly { readonly path: string; readonly name: string }[];
}

export function toBlaxelFile(file: GuestFile): BlaxelFile {
  return {
    path: file.path,
    name: file.name,
    permissions: file.mode.replace(/^0+(?=.)/, ''),
    size: file.size,
    lastModified: file.modifiedAt,
    owner: file.owner,
    group: file.group,
  };
}

/** Whatever is no directory counts as a file, links included. */
export function toBlaxelDirectory(path: string, entries: readonly GuestFile[]): BlaxelDirectory {
  return {
    path,
    name: path.slice(path.lastIndexOf('/') + 1) || '/',
    files: entries.filter((entry) => entry.type !== 'directory').map(toBlaxelFile),
    subdirectories: entries.filter((entry) => entry.type === 'directory').map(({ path, name }) => ({ path, name })),
  };
}
