export type { Branded } from './brand.ts';
export { randomWord, seededChance, systemChance, type Chance } from './chance.ts';
export { systemClock, type Clock } from './clock.ts';
export { withDeadline } from './deadline.ts';
export { explain, Failure } from './failure.ts';
export { KeyedQueue } from './keyed-queue.ts';
export { Lifetime } from './lifetime.ts';
