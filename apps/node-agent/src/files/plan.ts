/** What a merge is to do, of what the comparison of base, fork and here has told. Pure. */
import type { FileComparison, FileConflict, FileStep } from '@torpor/contracts';
import type { MergeStep } from '@torpor/runtime';

export interface Plan {
  readonly steps: readonly FileStep[];
  /** What nobody has settled. */
  readonly conflicts: readonly FileConflict[];
  /** Paths of files by which the platform tells one sandbox from another: each keeps its own. */
  readonly own: readonly string[];
}

/** As the guest and `life/create.ts` write them at a claim; and what a merge that died in the middle has left. */
const OWN = /^(etc\/(machine-id|hostname|hosts|resolv\.conf)|\.torpor-merge-[^/]*)$/;

export function planOf(
  { steps, conflicts }: Pick<FileComparison, 'steps' | 'conflicts'>,
  settle: 'fork' | 'here' | undefined,
): Plan {
  const own = [...steps, ...conflicts].map(({ path }) => path).filter((path) => OWN.test(path));
  const disputed = conflicts.filter(({ path }) => !OWN.test(path));
  const settled = settle === 'fork' ? disputed.map(asFork) : [];
  return {
    steps: [...steps.filter(({ path }) => !OWN.test(path)), ...settled].toSorted((a, b) => (a.path < b.path ? -1 : 1)),
    conflicts: settle === undefined ? disputed : [],
    own,
  };
}

function asFork({ path, raw, fork, here }: FileConflict): FileStep {
  const sides = { ...(here ? { here } : {}), ...(fork ? { fork } : {}) };
  return { path, ...(raw === undefined ? {} : { raw }), what: whatOf(fork, here), ...sides };
}

function whatOf(fork: FileConflict['fork'], here: FileConflict['here']): FileStep['what'] {
  if (!fork) return 'removed';
  if (!here) return 'added';
  if (fork.kind !== here.kind) return 'retyped';
  return fork.kind === 'directory' ? 'restated' : 'changed';
}

/** In the guest's words. */
export function mergeStepOf({ path, raw, fork, here }: FileStep): MergeStep {
  const where = { path: raw ?? Buffer.from(path).toString('base64'), expect: here ? 'present' : 'absent' } as const;
  if (!fork) return { ...where, do: 'remove', mode: 0, uid: 0, gid: 0 };
  const { mode, uid, gid } = fork;
  // Of two directories, what is in them has steps of its own.
  const isOnlyRestated = fork.kind === 'directory' && here?.kind === 'directory';
  return { ...where, do: isOnlyRestated ? 'restate' : 'put', mode, uid, gid };
}

/** What is carried over, bytes. */
export function bytesOf(steps: readonly FileStep[]): number {
  return steps.reduce((sum, { fork, within }) => sum + (fork ? (within?.bytes ?? fork.size) : 0), 0);
}
