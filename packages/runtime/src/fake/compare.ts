/** What hostd tells of the files of two or three images, of a fake host's. A merge knows files alone: no test needs more of a fake. */
import type { FileChange, FileComparison, FileEntry } from '@torpor/contracts';
import type { FakeFiles } from './files.ts';

type Told = Omit<FileComparison, 'tookMs'>;

export function compareFakes(trees: readonly FakeFiles[]): Told {
  const [base, fork, here] = trees;
  if (!base || !fork) throw new Error('fewer than two trees were compared');
  return here ? merged(base, fork, here) : changed(base, fork);
}

function changed(before: FakeFiles, after: FakeFiles): Told {
  const changes: FileChange[] = [];
  for (const path of pathsOf(before, after)) {
    const [was, is] = [entryOf(before, path), entryOf(after, path)];
    const what = difference(before, after, path);
    const isTold = changes.some((one) => one.within && path.startsWith(`/${one.path}/`));
    if (!what || isTold) continue;
    const whole = what !== 'added' && what !== 'removed' ? undefined : what === 'added' ? after : before;
    const within = whole && (is ?? was)?.kind === 'directory' ? { within: withinOf(whole, path) } : {};
    changes.push({ path: path.slice(1), what, ...(was ? { was } : {}), ...(is ? { is } : {}), ...within });
  }
  return { changes, steps: [], conflicts: [], counts: countsOf(changes.map(({ what }) => what)), unlisted: 0 };
}

function merged(base: FakeFiles, fork: FakeFiles, here: FakeFiles): Told {
  const told: Told = { changes: [], steps: [], conflicts: [], counts: {}, unlisted: 0 };
  for (const path of pathsOf(base, fork, here)) {
    const byFork = difference(base, fork, path);
    const apart = difference(here, fork, path);
    if (!byFork || !apart) continue;
    const [was, theirs, ours] = [entryOf(base, path), entryOf(fork, path), entryOf(here, path)];
    const sides = { ...(theirs ? { fork: theirs } : {}), ...(ours ? { here: ours } : {}) };
    if (!difference(base, here, path)) told.steps.push({ path: path.slice(1), what: apart, ...sides });
    else {
      const why = !theirs ? 'removed-in-fork' : !ours ? 'removed-here' : was ? 'both-changed' : 'both-added';
      told.conflicts.push({ path: path.slice(1), why, ...(was ? { base: was } : {}), ...sides });
    }
  }
  const counts = countsOf([...told.steps.map(({ what }) => what), ...told.conflicts.map(() => 'conflicts')]);
  return { ...told, counts };
}

function difference(a: FakeFiles, b: FakeFiles, path: string): FileChange['what'] | undefined {
  const [was, is] = [entryOf(a, path), entryOf(b, path)];
  if (!was && !is) return undefined;
  if (!was) return 'added';
  if (!is) return 'removed';
  if (was.kind !== is.kind) return 'retyped';
  if (was.kind === 'file' && !a.read(path).equals(b.read(path))) return 'changed';
  return was.mode === is.mode ? undefined : 'restated';
}

function entryOf(files: FakeFiles, path: string): FileEntry | undefined {
  if (!files.exists(path)) return undefined;
  const { type: kind, mode, uid, gid, size, modifiedAt } = files.stat(path);
  return { kind, mode: Number.parseInt(mode, 8), uid, gid, size, modifiedAtMs: Date.parse(modifiedAt) };
}

function pathsOf(...all: readonly FakeFiles[]): string[] {
  const found = all.flatMap((files) => files.list('/', Infinity).map(({ path }) => path));
  return [...new Set(found)].filter((path) => !path.startsWith('/run') && !path.startsWith('/tmp')).sort();
}

function withinOf(files: FakeFiles, path: string) {
  const all = files.list(path, Infinity);
  return { entries: all.length, bytes: all.reduce((sum, { size }) => sum + size, 0) };
}

function countsOf(all: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const one of all) counts[one] = (counts[one] ?? 0) + 1;
  return counts;
}
