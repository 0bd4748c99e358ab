export { isAddressIn } from './addresses.ts';
export { fakeDriver } from './fake-driver.ts';
export { FakeHost, type FakeHostOptions, type FakeVerb } from './fake/host.ts';
export type { FakeProgram, FakeProgramWorld } from './fake/programs.ts';
export type { Guest, GuestAnswer, GuestIdentity, GuestRequest } from './guest.ts';
export { guestFailure } from './guest-failures.ts';
export { gvisorDriver, type GvisorSettings } from './gvisor-driver.ts';
export {
  isDamage,
  isOfImage,
  isSilence,
  VOLUMES_DIR,
  type RestoreSpec,
  type StoreFacts,
  type StoreSpec,
} from './port.ts';
export { letterKey, openLetter, publicText, sealLetter, type Between } from './letters.ts';
export { Parcel, type ParcelFiles } from './parcels.ts';
export { tcpGuest } from './guest-tcp.ts';
export type {
  BootDisk,
  Death,
  DriverCapacity,
  InstanceDriver,
  InstanceFacts,
  InstanceHandle,
  InstanceSpec,
  InstanceUsage,
  LeanFacts,
  Intent,
  MergeSpec,
  MergeStep,
  PackedFiles,
  KeptVolume,
  PlacedVolume,
  Step,
  VolumeUsage,
} from './port.ts';
export { assertCovered, runSteps } from './steps.ts';
