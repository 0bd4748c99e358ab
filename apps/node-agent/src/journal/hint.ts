import { Loss } from '@torpor/contracts';
import { z } from 'zod';
import { CensusShape } from '../receipts/census.ts';
import { SleepNote } from '../standby/sleep-book.ts';

const measuredMs = z.array(z.number()).default([]);

/** What is worth having after a restart, and may be lost. */
export const Hint = z.object({
  lastUsedAtMs: z.number(),
  /** How long the last wakes took, by the tier that they came from, and the last stores; the oldest first. */
  paused: measuredMs,
  lean: measuredMs,
  stored: measuredMs,
  files: measuredMs,
  stores: measuredMs,
  storeAsked: z.boolean().default(false),
  book: SleepNote.optional(),
  /** Its memory had been paged out. */
  isLean: z.boolean().default(false),
  lost: Loss.optional(),
  /** As it was when it last fell asleep. */
  census: CensusShape.optional(),
});
export type Hint = z.infer<typeof Hint>;

/** A hint that is damaged is a hint that is lost. */
export function readHint(text: string | undefined): Hint | undefined {
  if (text === undefined) return undefined;
  try {
    return Hint.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined; // not even JSON
  }
}
