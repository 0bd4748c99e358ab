import type { GuestIdentity } from '../guest.ts';
import type { FakeFiles } from './files.ts';
import type { FakeProcessImage } from './process.ts';

/** What a fake instance is at one moment, as values: nothing that happens to it afterwards shows in here. */
export interface FakeMemory {
  readonly token: string;
  readonly identity: GuestIdentity | undefined;
  readonly startedAtMs: number;
  readonly processCount: number;
  readonly processes: readonly FakeProcessImage[];
  readonly mounts: readonly FakeMount[];
}

/** A volume in its place, in the guest's words. */
export interface FakeMount {
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
}

/** What an image holds of a volume. */
export interface FakeKeptVolume {
  readonly volume: string;
  readonly name: string;
  readonly mib: number;
  readonly files: FakeFiles;
}

/** An image on a fake host. The parts come one after another, and only with a manifest is it one. */
export interface FakeImage {
  readonly key: string;
  readonly memory: FakeMemory | undefined;
  /** The disk at the moment of the snapshot. */
  readonly files: FakeFiles | undefined;
  /** Likewise. */
  readonly volumes?: readonly FakeKeptVolume[];
  readonly manifest: string | undefined;
  /** Somebody flipped a byte of it. */
  readonly isDamaged: boolean;
}
