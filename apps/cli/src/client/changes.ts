/** Differences between files, for people: one line each, paths as a shell would take them. */
import type { DiffView } from '@torpor/api';
import { inUnits } from './copy-progress.ts';

type Change = DiffView['changes'][number];
type Entry = NonNullable<Change['is']>;

const SIGNS = { added: '+', removed: '-', changed: 'M', retyped: 'T', restated: 'm' } as const;

export function changesOf({ changes, unlisted }: DiffView): string {
  if (changes.length === 0) return 'Nothing has changed.';
  const lines = changes.map(
    (change) => `${SIGNS[change.what]} ${shown({ ...change, kind: (change.is ?? change.was)?.kind })}${detail(change)}`,
  );
  return [...lines, ...(unlisted > 0 ? [`… and ${unlisted} more: name a part of the tree by --under`] : [])].join('\n');
}

/** A path may hold anything that a file's name can, so that nothing in it reaches a terminal as it is. */
export function shown({ path, kind }: { readonly path: string; readonly kind?: string | undefined }): string {
  // oxlint-disable-next-line no-control-regex -- they are what is looked for
  const text = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\ufffd"\\]/.test(path)
    ? JSON.stringify(`/${path}`)
    : `/${path}`;
  return kind === 'directory' ? `${text}/` : text;
}

function detail({ what, was, is, within }: Change): string {
  if (within) {
    const holds = `${within.entries} ${within.entries === 1 ? 'entry' : 'entries'}, ${inUnits(within.bytes)}`;
    return what === 'retyped' ? `  ${was?.kind} → ${is?.kind}, ${holds}` : `  ${holds}`;
  }
  switch (what) {
    case 'added':
      return sizeOf(is);
    case 'removed':
      return sizeOf(was);
    case 'changed':
      return was?.kind === 'file' && is ? `  ${inUnits(was.size)} → ${inUnits(is.size)}` : '';
    case 'retyped':
      return `  ${was?.kind} → ${is?.kind}`;
    case 'restated':
      return `  ${standing(was)} → ${standing(is)}`;
  }
}

function sizeOf(entry: Entry | undefined): string {
  return entry?.kind === 'file' ? `  ${inUnits(entry.size)}` : '';
}

function standing(entry: Entry | undefined): string {
  return entry ? `${entry.mode.toString(8).padStart(4, '0')} ${entry.uid}:${entry.gid}` : '';
}
