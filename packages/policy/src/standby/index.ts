export { idleVerdict, previewCounts, type IdleVerdict, type PreviewBytes, type UseFacts } from './idle.ts';
export { allowance, judgeSteps, P99_SHARE, planSleep, type Depth, type Outlook, type Plan } from './depths.ts';
export { predictMs } from './predict.ts';
export { pressed, type PressedSleeper } from './pressure.ts';
export { costOfWork, costPerHour, costPerMs, DEFAULT_PRICES, type Holds, type Prices } from './price.ts';
export { sandboxDepths, type SleepTier } from './sandbox-depths.ts';
export { withSleep, type Sleeps } from './sleeps.ts';
export { medianMs, p99Ms, wakeTimeOf, type WakeTime } from './wake-time.ts';
export { relieve, type HostMemory, type Slumber } from './relief.ts';
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
