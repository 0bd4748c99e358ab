/** Differences between files, for people: one line each, paths as a shell would take them. */
import type { DiffView, MergeView } from '@torpor/api';
import { inUnits } from './copy-progress.ts';

type Change = DiffView['changes'][number];
type Entry = NonNullable<Change['is']>;

const SIGNS = { added: '+', removed: '-', changed: 'M', retyped: 'T', restated: 'm' } as const;

/** What a merge has done or would do, and what stands in its way. */
export function mergeOf({ isMerged, steps, conflicts, unlisted, left, before }: MergeView, isDry: boolean): string {
  const doing = isMerged ? 'merged' : 'would be merged';
  return [
    ...steps.map((step) => {
      const { here: was, fork: is, ...rest } = step;
      const change = { ...rest, ...(was ? { was } : {}), ...(is ? { is } : {}) };
      return `${SIGNS[step.what]} ${shown({ ...step, kind: (is ?? was)?.kind })}${detail(change)}`;
    }),
    ...conflicts.map(
      (conflict) => `! ${shown({ ...conflict, kind: (conflict.fork ?? conflict.here)?.kind })}  ${WHY[conflict.why]}`,
    ),
    ...left.map((path) => `= ${shown({ path })}  stays as it is: each sandbox has its own, or it cannot be carried`),
    ...(unlisted > 0 ? [`… and ${unlisted} more: name a part of the tree by --under`] : []),
    conflicts.length > 0
      ? `Nothing was merged: ${conflicts.length} ${conflicts.length === 1 ? 'conflict' : 'conflicts'}. --theirs takes the fork's side in all, --ours leaves what is there.`
      : `${steps.length} ${steps.length === 1 ? 'path' : 'paths'} ${doing}${isDry ? '; nothing was changed' : ''}.`,
    ...(before ? [`Before that it was ${before.image}: torpor snapshot restore goes back there, memory and all.`] : []),
  ].join('\n');
}

const WHY = {
  'both-changed': 'changed in both',
  'both-added': 'added in both',
  'removed-here': 'changed in the fork, removed here',
  'removed-in-fork': 'removed in the fork, changed here',
  'file-against-directory': 'a directory in one, none in the other',
} as const;

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
