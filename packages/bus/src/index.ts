export type { AskOptions, CallContext, Hints, Subscription, Wire } from './wire.ts';
