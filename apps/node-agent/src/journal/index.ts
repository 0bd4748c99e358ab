export { failpointsFrom, type Failpoints } from './failpoints.ts';
export { fileJournalStore } from './file-store.ts';
export type { Hint } from './hint.ts';
export { Journal, type DoneWords, type IntentWords } from './journal.ts';
export type { Entry } from './entry.ts';
export type { Claim, Process, Spec } from './lines.ts';
export { EMPTY_SHELF, namesOn, shelfAfter, spare, type KeptImage, type Shelf } from './shelf.ts';
export { MemoryJournalStore, type JournalStore } from './store.ts';
