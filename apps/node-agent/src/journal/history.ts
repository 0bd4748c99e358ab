/** What befell one instance, as its journal's lines tell it: only what was written down, so not its sleeps in RAM. Pure. */
import type { InstanceEvent } from '@torpor/contracts';
import type { Line } from './lines.ts';

/** The oldest first; of a long life the last. */
const TOLD_MAX = 500;

export function historyOf(lines: readonly Line[]): InstanceEvent[] {
  const saves = new Map<string, number>();
  let trying: string | undefined;
  let aside: InstanceEvent | undefined;
  const events = lines.flatMap((line): InstanceEvent[] => {
    const { kind, atMs } = line;
    switch (kind) {
      case 'intent':
        if (line.operation === 'store') trying = line.image;
        // What happened after its save began is not in an image.
        if (line.operation === 'store' || line.operation === 'snapshot') saves.set(line.image, atMs);
        if (line.operation === 'restore') aside = asideOf(line) ?? aside;
        // One that begins anew has for its disk what a fall-back had put aside.
        if (line.operation === 'boot') aside = asideOf(line);
        return [];
      case 'done': {
        const events = ended(line, { trying, saves });
        if (line.operation !== 'restore' && line.operation !== 'boot') return events;
        if (aside) events.unshift(aside);
        aside = undefined;
        return events;
      }
      case 'kept':
        return [{ atMs, what: 'kept', image: line.image, because: line.note.because, ...named(line.note) }];
      case 'unkept':
        return [{ atMs, what: 'let go', image: line.image }];
      case 'unmade':
        return [{ atMs, what: 'not made', image: line.image, reason: line.reason }];
      case 'arrived':
        return [...(line.history ?? []), { atMs, what: 'arrived' }];
      case 'rewound':
        return [{ atMs, what: 'went back', image: line.image }];
      case 'damaged':
        return [{ atMs, what: 'refused', image: line.image, reason: line.reason }];
      case 'died':
      case 'failed':
        return [{ atMs, what: 'died', reason: line.reason }];
      case 'lives':
      case 'policy':
      case 'raised':
      case 'remains':
      case 'step':
        return [];
    }
  });
  return events.slice(-TOLD_MAX);
}

function ended(
  line: Extract<Line, { kind: 'done' }>,
  { trying, saves }: { trying: string | undefined; saves: ReadonlyMap<string, number> },
): InstanceEvent[] {
  const { atMs } = line;
  switch (line.operation) {
    case 'claim':
      return [{ atMs, what: 'created' }];
    case 'store':
      return trying === undefined
        ? []
        : [{ atMs: saves.get(trying) ?? atMs, what: 'stored', image: trying, bytes: line.bytes }];
    case 'snapshot':
      return [{ atMs: saves.get(line.image) ?? atMs, what: 'snapshot', image: line.image, bytes: line.bytes }];
    case 'boot':
      return [{ atMs, what: 'woke from files' }];
    case 'restore':
      return [{ atMs, what: 'woke from image' }];
    case 'create':
    case 'release':
    case 'forget':
      return [];
  }
}

function asideOf({
  atMs,
  keep,
  keepName: name,
}: Extract<Line, { kind: 'intent'; operation: 'restore' | 'boot' }>): InstanceEvent | undefined {
  return keep === undefined ? undefined : { atMs, what: 'put aside', image: keep, ...named({ name }) };
}

function named({ name }: { readonly name?: string | undefined }) {
  return name === undefined ? {} : { name };
}
