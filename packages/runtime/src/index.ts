export type { Guest, GuestAnswer, GuestIdentity, GuestRequest } from './guest.ts';
export type {
  DriverCapacity,
  InstanceDriver,
  InstanceFacts,
  InstanceHandle,
  InstanceSpec,
  InstanceUsage,
  Intent,
  Step,
} from './port.ts';
