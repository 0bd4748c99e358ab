export { failpointsFrom, type Failpoints } from './failpoints.ts';
export { fileJournalStore } from './file-store.ts';
export { Journal, type Hint } from './journal.ts';
export type { Claim, Entry, Process, Spec } from './lines.ts';
export { MemoryJournalStore, type JournalStore } from './store.ts';
