export { failpointsFrom, type Failpoints } from './failpoints.ts';
export { fileJournalStore } from './file-store.ts';
export { Hint } from './hint.ts';
export { Journal, type ArrivedWords, type DoneWords, type IntentWords } from './journal.ts';
export { withPolicy, type Entry } from './entry.ts';
export type { Claim, HeldVolume, Policy, Process, SleepPolicy, SnapshotNote, Spec } from './lines.ts';
export {
  EMPTY_SHELF,
  namesOn,
  remaining,
  shelfAfter,
  spare,
  takenOver,
  type Kept,
  type KeptDisk,
  type KeptImage,
  type KeptSnapshot,
  type Shelf,
} from './shelf.ts';
export { MemoryJournalStore, type JournalStore } from './store.ts';
export { volumeAfter, type VolumeAct, type VolumeEntry } from './volume-lines.ts';
