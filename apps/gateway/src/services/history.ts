/**
 * The life of one sandbox as one list, from everybody who knows a part of it: its record, the journal and the receipts of its node, the ledger (which alone
 * knows its sleeps in RAM), and the sandboxes that were forked from it. Pure.
 */
import type { HistoryView } from '@torpor/api';
import type { InstanceEvent, Receipt, Sandbox, Snapshot } from '@torpor/contracts';
import type { UsedStretch } from '@torpor/store';

type Point = HistoryView[number];

export interface Known {
  readonly sandbox: Sandbox;
  readonly events: readonly InstanceEvent[];
  readonly snapshots: readonly Snapshot[];
  readonly receipts: readonly Receipt[];
  readonly stretches: readonly UsedStretch[];
  readonly forks: readonly Sandbox[];
}

/** Between two stretches of one sleep there may be a moment that nobody was asked to pay for. */
const GAP_MS = 1_000;

const FELL_ASLEEP = {
  paused: 'fell asleep in RAM',
  lean: 'was paged out, asleep: its memory went to swap',
  stored: 'slept on the disk',
} as const;

/** The oldest first. */
export function historyOf({ sandbox, events, snapshots, receipts, stretches, forks }: Known): HistoryView {
  const there = new Map(snapshots.filter(({ state }) => state === 'ready').map((one) => [one.id, one]));
  const { origin, createdAtMs } = sandbox;
  const born: Point = {
    atMs: createdAtMs,
    what: 'created',
    told: origin ? `forked from ${origin.name} (${origin.snapshot})` : 'created',
  };
  const all = [
    born,
    ...events.flatMap((event) => ofEvent(event, there)),
    ...receipts.map(ofReceipt),
    ...ofStretches(stretches),
    ...forks.map((fork): Point => ({ atMs: fork.createdAtMs, what: 'fork', told: `forked into ${fork.name}` })),
  ];
  return all.toSorted((a, b) => a.atMs - b.atMs);
}

function ofEvent(event: InstanceEvent, there: ReadonlyMap<string, Snapshot>): Point[] {
  const { atMs, what, image, reason } = event;
  const id = image !== undefined && there.has(image) ? { id: image } : {};
  const because = reason === undefined ? '' : `: ${reason}`;
  switch (what) {
    case 'stored':
      return [{ atMs, what: 'stored', told: `stored${sizeOf(event)}`, ...id }];
    case 'snapshot': {
      const name = image === undefined ? undefined : there.get(image)?.name;
      return [
        { atMs, what: 'snapshot', told: `snapshot${name === undefined ? '' : ` "${name}"`}${sizeOf(event)}`, ...id },
      ];
    }
    case 'kept':
      return [{ atMs, what: 'snapshot', told: `what it slept in was kept${calledOf(event)}`, ...id }];
    case 'let go':
      return [{ atMs, what: 'deleted', told: `the snapshot ${image} was let go` }];
    case 'not made':
      return [{ atMs, what: 'failed', told: `a snapshot came to nothing${because}` }];
    case 'arrived':
      return [{ atMs, what: 'moved', told: 'came from another node; what befell it there is not told' }];
    case 'went back':
      return [{ atMs, what: 'restored', told: `went back to ${image}`, ...id }];
    case 'put aside':
      return [{ atMs, what: 'snapshot', told: `the disk as it was then was put aside${calledOf(event)}`, ...id }];
    case 'refused':
      return [{ atMs, what: 'lost', told: `the image ${image} would not do${because}` }];
    case 'died':
      return [{ atMs, what: 'lost', told: `its process ended${because}` }];
    case 'created':
    case 'woke from files':
    case 'woke from image':
      return []; // the record and the receipts tell more of it
  }
}

function ofReceipt({ wokeAtMs: atMs, cause = 'wake', tier, tookMs, verdict, lost }: Receipt): Point {
  const how = { wake: 'woke', restore: 'woke as what it was restored to', fork: 'woke as a fork' }[cause];
  const from = tier === 'files' ? 'its files alone' : 'the disk';
  const missing = lost === undefined ? '' : `; ${lost}`;
  const told = `${how} from ${from} in ${tookMs.toFixed(0)} ms, receipt: ${verdict}${missing}`;
  return { atMs, what: verdict === 'whole' || verdict === 'unchecked' ? 'woke' : 'lost', told };
}

function ofStretches(stretches: readonly UsedStretch[]): Point[] {
  const joined: UsedStretch[] = [];
  for (const stretch of stretches) {
    const before = joined.at(-1);
    const goesOn = before?.tier === stretch.tier && stretch.fromMs - before.toMs <= GAP_MS;
    if (before && goesOn) joined[joined.length - 1] = { ...before, toMs: stretch.toMs };
    else joined.push(stretch);
  }
  return joined.flatMap(({ tier, fromMs, toMs }, at): Point[] => {
    if (tier === 'running' || tier === 'volume') return []; // volumes are metered for themselves
    const isOver = at + 1 < joined.length;
    const slept: Point = { atMs: fromMs, what: 'slept', told: FELL_ASLEEP[tier] };
    const wakes = isOver && joined[at + 1]?.tier === 'running';
    if (!wakes || tier === 'stored') return [slept]; // its receipt tells of a wake from the disk
    return [
      slept,
      { atMs: toMs, what: 'woke', told: tier === 'paused' ? 'woke from RAM' : 'woke, paged out as it was' },
    ];
  });
}

function sizeOf({ bytes }: InstanceEvent): string {
  return bytes === undefined ? '' : `, ${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function calledOf({ name }: InstanceEvent): string {
  return name === undefined ? '' : ` as "${name}"`;
}
