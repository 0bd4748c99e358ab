import type { InstanceId } from '@torpor/contracts';
import type { Claim, DoneLine, IntentLine, Line, Process, Policy, Spec } from './lines.ts';
import { EMPTY_SHELF, shelfAfter, type Shelf } from './shelf.ts';

/** An instance as its journal tells it. What is `undefined` has not been reached. */
export interface Entry {
  readonly hostId: InstanceId;
  /** Absent: not even the intent to create it is whole; nothing was done. */
  readonly spec: Spec | undefined;
  /** All creating steps ended well. */
  readonly process: Process | undefined;
  readonly claim: Claim | undefined;
  /** The claim was carried through: only then may its create have been answered. */
  readonly claimed: boolean;
  readonly createdAtMs: number | undefined;
  readonly destroying: string | undefined;
  /** Snapshots that are to outlive its destruction. */
  readonly keep: readonly string[];
  /** It was destroyed, and they have. */
  readonly remains: boolean;
  readonly failed: string | undefined;
  /** Why its process is gone, when it falls back to an image, or to its files, and no wake has done so yet. */
  readonly died: string | undefined;
  readonly shelf: Shelf;
}

export function fold(hostId: InstanceId, lines: readonly Line[]): Entry {
  const start: Entry = {
    hostId,
    spec: undefined,
    process: undefined,
    claim: undefined,
    claimed: false,
    createdAtMs: undefined,
    destroying: undefined,
    keep: [],
    remains: false,
    failed: undefined,
    died: undefined,
    shelf: EMPTY_SHELF,
  };
  return lines.reduce((entry, line) => ({ ...step(entry, line), shelf: shelfAfter(entry.shelf, line) }), start);
}

function step(entry: Entry, line: Line): Entry {
  switch (line.kind) {
    case 'intent':
      return intended(entry, line);
    case 'done':
      return ended(entry, line);
    case 'policy':
      return entry.claim ? { ...entry, claim: withPolicy(entry.claim, line) } : entry;
    case 'remains':
      return { ...entry, remains: true };
    case 'raised':
      return entry.claim ? { ...entry, claim: { ...entry.claim, generation: line.generation } } : entry;
    case 'failed':
      return { ...entry, failed: line.reason };
    case 'died':
      return { ...entry, died: line.reason };
    case 'arrived':
      return { ...entry, process: {}, claim: line.claim, claimed: true, createdAtMs: line.atMs };
    case 'lives':
      return line.process ? { ...entry, process: line.process, died: undefined } : entry;
    case 'damaged':
    case 'unmade':
    case 'kept':
    case 'unkept':
    case 'rewound':
    case 'step':
      return entry;
  }
}

/** Limits that are not told stay; a wake budget that is not told is no more. */
export function withPolicy(claim: Claim, { idle, wakeBudget, snapshotLimits }: Policy): Claim {
  const { wakeBudget: _, ...rest } = claim;
  return { ...rest, idle, ...(wakeBudget ? { wakeBudget } : {}), ...(snapshotLimits ? { snapshotLimits } : {}) };
}

function ended(entry: Entry, line: DoneLine): Entry {
  switch (line.operation) {
    case 'create':
      return { ...entry, process: line.process };
    case 'claim':
      return { ...entry, claimed: true, createdAtMs: line.atMs };
    case 'restore':
    case 'boot':
      return { ...entry, process: line.process, died: undefined };
    case 'store':
    case 'snapshot':
    case 'release':
    case 'forget':
      return entry;
  }
}

function intended(entry: Entry, line: IntentLine): Entry {
  switch (line.operation) {
    case 'create':
    case 'arrive':
      return { ...entry, spec: line.spec };
    case 'claim':
      return { ...entry, claim: line.claim };
    case 'destroy':
      return { ...entry, destroying: line.reason, keep: line.keep ?? [] };
    case 'store':
    case 'snapshot':
    case 'release':
    case 'restore':
    case 'boot':
    case 'forget':
    case 'leave':
    case 'stay':
    case 'copy':
      return entry;
  }
}
