export { idleVerdict, previewCounts, type IdleVerdict, type PreviewBytes, type UseFacts } from './idle.ts';
export { predictMs } from './predict.ts';
export { relieve, type HostMemory, type Relief, type Slumber } from './relief.ts';
export { mayPageOut, swapToMake } from './swap.ts';
export {
  EFFECTS,
  HAPPENINGS,
  hasQueuedWake,
  isInRam,
  next,
  reported,
  restsInRam,
  STANDBY_STATES,
  STANDBY_TABLE,
  type Effect,
  type Happening,
  type Move,
  type StandbyState,
} from './table.ts';
