/** What a fake host packs for a fake guest to merge: JSON, of which no other guest makes anything. */
import type { MergeSpec } from '../port.ts';
import { guestError, type FakeFiles } from './files.ts';

interface FakePack {
  readonly merge: MergeSpec;
  /** What the steps put somewhere, by their numbers: paths below the step's own, and a file's contents in base64. */
  readonly puts: Record<number, { readonly below: string; readonly mode: string; readonly content?: string }[]>;
}

export function packFake(files: FakeFiles, merge: MergeSpec): Buffer {
  const puts: FakePack['puts'] = {};
  merge.steps.forEach((step, number) => {
    if (step.do !== 'put') return;
    const path = pathOf(step);
    const isDirectory = files.stat(path).type === 'directory';
    const all = [path, ...(isDirectory ? files.list(path, Infinity).map((one) => one.path) : [])];
    puts[number] = all.toSorted().map((one) => {
      const { type, mode } = files.stat(one);
      const content = type === 'file' ? { content: files.read(one).toString('base64') } : {};
      return { below: one.slice(path.length), mode, ...content };
    });
  });
  return Buffer.from(JSON.stringify({ merge, puts } satisfies FakePack));
}

export function applyFake(files: FakeFiles, body: Buffer): { applied: number; skipped: string[] } {
  const { merge, puts } = JSON.parse(body.toString()) as FakePack; // made by packFake
  const changed = merge.steps.map(pathOf).filter((path, number) => {
    if (!files.exists(path)) return merge.steps[number]?.expect !== 'absent';
    return merge.steps[number]?.expect !== 'present' || Date.parse(files.stat(path).modifiedAt) > merge.sinceMs;
  });
  if (changed.length > 0) throw guestError(409, 'conflict', `${changed.join()} changed while the merge was made`);
  merge.steps.forEach((step, number) => {
    const path = pathOf(step);
    if (step.do !== 'restate' && files.exists(path)) files.remove(path, true);
    for (const { below, mode, content } of puts[number] ?? []) {
      if (content === undefined) files.mkdir(path + below, mode);
      else files.write(path + below, Buffer.from(content, 'base64'), { mode });
    }
  });
  return { applied: merge.steps.length, skipped: [] };
}

function pathOf({ path }: MergeSpec['steps'][number]): string {
  return `/${Buffer.from(path, 'base64').toString()}`;
}
