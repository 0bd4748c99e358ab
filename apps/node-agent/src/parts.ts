import type { InstanceId, SwapKind } from '@torpor/contracts';
import type { Chance, Clock, Turns } from '@torpor/kernel';
import type { Prices } from '@torpor/policy';
import type { InstanceDriver } from '@torpor/runtime';
import type { NodeEvents } from './events.ts';
import type { Journal } from './journal/index.ts';
import type { NodeKey } from './images/node-key.ts';
import type { SnapshotPolicy } from './images/retention.ts';
import type { Slots } from './life/slots.ts';
import type { Admission } from './pools/admission.ts';
import type { Receipts } from './receipts/receipts.ts';
import type { Volumes } from './volumes/volumes.ts';

/** How a sandbox of a template begins: part of its identity. */
export interface Recipe {
  /** The template's own name, when it was asked for by an alias. */
  readonly template: string;
  readonly workdir: string;
  readonly user: string;
  readonly env: Readonly<Record<string, string>>;
}

/** What the folders of this room share. */
export interface Parts {
  readonly driver: InstanceDriver;
  readonly journal: Journal;
  readonly clock: Clock;
  readonly chance: Chance;
  readonly events: NodeEvents;
  readonly slots: Slots;
  readonly admission: Admission;
  readonly nodeKey: NodeKey;
  readonly receipts: Receipts;
  /** How long an instance sleeps in RAM before it is paged out; 0: only when that is asked for, or the host wants the RAM. */
  readonly leanAfterMs: number;
  readonly swap: SwapKind;
  readonly volumes: Volumes;
  /** How long an instance sleeps in RAM before it is stored; 0: for ever. */
  readonly storeAfterMs: number;
  readonly prices: Prices;
  /** Wakes from the disk come in the order in which they were asked for: all at once, none would end in the time that a request is held. */
  readonly restores: Turns;
  readonly snapshotPolicy: SnapshotPolicy;
  recipeOf(template: string): Recipe;
  /** Aborts when the room closes: retries stop, the journal knows what is left to do. */
  readonly closing: AbortSignal;
}

/** What carries an instance on the host: its name there and its slot. */
export interface Body {
  readonly hostId: InstanceId;
  readonly slot: number;
}
