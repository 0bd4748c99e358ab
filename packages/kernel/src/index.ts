export type { Branded } from './brand.ts';
export { randomWord, seededChance, systemChance, type Chance } from './chance.ts';
export { systemClock, type Clock } from './clock.ts';
export { withDeadline } from './deadline.ts';
export { explain, Failure } from './failure.ts';
export { HOP_BY_HOP, namedByConnection } from './hop-by-hop.ts';
export { hostAndPort } from './host-and-port.ts';
export { KeyedQueue } from './keyed-queue.ts';
export { Lifetime } from './lifetime.ts';
