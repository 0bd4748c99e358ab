import type { Wire } from '@torpor/bus';
import type { Chance, Clock } from '@torpor/kernel';
import type { Store } from '@torpor/store';
import type { Telemetry } from '@torpor/telemetry';
import type { SchedulerEvents } from './events.ts';

/** What the folders of this room share. */
export interface Parts {
  readonly store: Store;
  readonly wire: Wire;
  readonly clock: Clock;
  readonly chance: Chance;
  readonly telemetry: Telemetry;
  readonly events: SchedulerEvents;
  readonly times: Times;
  /** Aborts when the room closes. */
  readonly closing: AbortSignal;
}

/** Every span of time that this room waits, in one place. */
export interface Times {
  /** A node not heard of for this long loses its lease. */
  readonly leaseMs: number;
  /** Kept back from a create's deadline, for the commit and the way home. */
  readonly answerMarginMs: number;
  /** A create with less than this left tries no other node. */
  readonly anotherTryMs: number;
  /** How long a delete waits for the node before it answers; the ending is on record by then. */
  readonly stopPatienceMs: number;
  /** Between two looks at what is stuck. */
  readonly repairMs: number;
  /** A creation that nobody works on is stuck when it has not moved for this long: more than any create may take. */
  readonly stuckMs: number;
  /** How long an ending is remembered after the node confirmed it, so that a start that comes late is known as unwanted. */
  readonly endingMemoryMs: number;
  readonly sweepMs: number;
  /** How long use is kept interval by interval, and the audit log row by row. Infinity: for ever. */
  readonly usageKeptMs: number;
  readonly auditKeptMs: number;
  /** Between two looks at what was kept long enough, when the last one left nothing. */
  readonly retentionMs: number;
  /** The expiry loop looks at least this often, in case another scheduler has changed something. */
  readonly expiryLookMs: number;
}

const DAY_MS = 24 * 3_600_000;

export const TIMES: Times = {
  leaseMs: 20_000,
  answerMarginMs: 2_000,
  anotherTryMs: 5_000,
  stopPatienceMs: 8_000,
  repairMs: 5_000,
  stuckMs: 75_000,
  endingMemoryMs: DAY_MS,
  sweepMs: 60_000,
  usageKeptMs: 400 * DAY_MS,
  auditKeptMs: 400 * DAY_MS,
  retentionMs: 3_600_000,
  expiryLookMs: 15_000,
};

/** 0 days: for ever. */
export function keptMs(days: number): number {
  return days === 0 ? Infinity : days * DAY_MS;
}
