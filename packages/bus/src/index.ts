export { MemoryBus, memoryWire, type Fate, type Fates } from './memory-wire.ts';
export { natsWire, type NatsWireOptions, type OpenWire } from './nats-wire.ts';
export { PAYLOAD_BYTES_MAX } from './payload.ts';
export { roomPermissions, type RoomName } from './permissions.ts';
export type { AskOptions, CallContext, Hints, Subscription, Wire } from './wire.ts';
