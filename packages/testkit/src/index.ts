export { startPostgres, type TestPostgres } from './postgres.ts';
export { VirtualClock } from './virtual-clock.ts';
export { severable, type SeverableOptions } from './severable.ts';
