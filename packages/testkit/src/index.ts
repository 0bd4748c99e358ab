export { fuzzedRequest, type Fuzzed, type Lawful, type Places } from './fuzzed-requests.ts';
export { startPostgres, type TestPostgres } from './postgres.ts';
export { VirtualClock } from './virtual-clock.ts';
export { severable, type SeverableOptions } from './severable.ts';
export { requestText } from './request-text.ts';
