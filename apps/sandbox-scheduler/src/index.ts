export { openScheduler, type Scheduler, type SchedulerOptions } from './sandbox-scheduler.ts';
export { TIMES, type Times } from './parts.ts';
