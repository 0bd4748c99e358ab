/**
 * The instance port: what the node-agent's standby engine asks of an isolation driver. Every driver passes `conformance.ts`.
 *
 * A driver is mechanism. It offers *steps*, each one verb of hostd or one call to the runtime; the engine decides their order, journals the intent
 * before they run, and carries them out. Creating steps are idempotent, and so are destroying ones: an absent thing is destroyed already.
 */
import type { FileComparison, InstanceId, Isolation, Make, Shape, SwapArea, VolumeId } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { Readable } from 'node:stream';
import type { Guest } from './guest.ts';
import type { Parcel, ParcelFiles } from './parcels.ts';

/** Proof that the intent to run these steps lies fsynced in the journal. Only the journal makes one. */
export interface Intent {
  readonly instanceId: InstanceId;
  readonly operation: string;
  covers(step: string): boolean;
}

export interface Step {
  /** The verb's name, such as `disk.create`. */
  readonly name: string;
  /** Names of the steps of the same list that must have ended well before; steps that do not wait for each other may run side by side. */
  readonly after: readonly string[];
  run(intent: Intent): Promise<void>;
}

/** What a driver needs to make an instance that has run nothing but the guest. */
export interface InstanceSpec {
  readonly instanceId: InstanceId;
  /** A small number, unique among the node's instances: names and addresses derive from it. */
  readonly slot: number;
  readonly template: string;
  readonly shape: Shape;
  /** Accepted by the guest until the claim. */
  readonly bootToken: string;
}

/** One image of an instance's memory and disks, as the host knows it. */
export interface ImageRef {
  /** `[a-z0-9][a-z0-9-]{7,62}`, never used twice. */
  readonly image: string;
  /** What its memory is encrypted under: 32 bytes. */
  readonly key: Uint8Array;
}

/** A volume, and the name under which it lies in its instance's directory of volumes. Images know it by that name. */
export interface PlacedVolume {
  readonly volume: VolumeId;
  readonly name: string;
}

/** A volume of an instance that is brought back. */
export interface KeptVolume extends PlacedVolume {
  /** What the image calls it, which it becomes again. Absent: the image does not hold it, and it stays as it is. */
  readonly of?: string;
  /** It is made of what the image holds, with this size; absent: it is there already. */
  readonly newMib?: number;
}

export interface StoreSpec extends ImageRef {
  readonly instanceId: InstanceId;
  /** What it has attached: the image holds them, too. The host finding anything else attached fails the store. */
  readonly volumes?: readonly PlacedVolume[];
  /** Bound to the image besides its digest and the host's own facts; JSON. */
  readonly manifest: Readonly<Record<string, unknown>>;
}

/** What one store came to: sizes in bytes, times in ms. `stallMs`: how long the sandbox could not be woken. */
export interface StoreFacts {
  readonly bytes: number;
  readonly memoryBytes: number;
  readonly digest: string;
  readonly stallMs: number;
  readonly saveMs: number;
  readonly fsyncMs: number;
  readonly verifyMs: number;
}

export interface RestoreSpec extends ImageRef, InstanceSpec {
  /** Accepted by the guest that comes back. */
  readonly token: string;
  /**
   * `as-it-is`: the disk has not changed since the image was made. `as-then`: it has, so it is brought back to what it was; what it is now is kept as
   * the snapshot `keep`, when that is given. So is a fork's, which has none yet.
   */
  readonly disk: { readonly kind: 'as-it-is' } | { readonly kind: 'as-then'; readonly keep?: string };
  /** Attached again, and back to what they were, unless the disk is as it is. What they are now is kept with the disk. */
  readonly volumes?: readonly KeptVolume[];
}

/** What an instance is begun anew on. */
export interface BootDisk {
  /**
   * Its own, when absent. Else the one that a `restoreSteps` has put aside under this name: `perhaps`, where it may not have come to that, and its own will
   * do, with volumes as they are kept with that disk; `surely`, where nothing else will do, and what it has now is put aside as `keep`, when that is given.
   */
  readonly from?: { readonly name: string; readonly isThere: 'perhaps' | 'surely'; readonly keep?: string };
  /** Attached again. */
  readonly volumes?: readonly KeptVolume[];
}

/** What a comparison of files may cost, all trees together: names looked at, bytes of contents read, time, and differences told one by one. */
export interface CompareLimits {
  readonly entries: number;
  readonly bytes: number;
  readonly ms: number;
  readonly listed: number;
}

export interface CompareSpec {
  /** Two: what changed from the first to the second. Three, base, fork and here: what a merge of the fork into what is here would do. */
  readonly images: readonly [string, string] | readonly [string, string, string];
  /** The one part of the trees to look at. */
  readonly under?: string | undefined;
  readonly limits: CompareLimits;
}

/** What a merge does to the files of one instance, in the guest's words (packages/guest/PROTOCOL.md). */
export interface MergeSpec {
  /** What was changed later than this is not overwritten. */
  readonly sinceMs: number;
  readonly steps: readonly MergeStep[];
}

export interface MergeStep {
  /** Below the root; its bytes in base64. */
  readonly path: string;
  readonly do: 'put' | 'remove' | 'restate';
  readonly expect: 'present' | 'absent';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface PackFilesSpec {
  /** Into which it is merged. */
  readonly instanceId: InstanceId;
  /** From which it is taken. */
  readonly image: string;
  readonly merge: MergeSpec;
  readonly limits: CompareLimits;
}

/** A merge laid ready on the host. */
export interface PackedFiles {
  /** What the instance's guest is to be sent. */
  read(): Readable;
  drop(): Promise<void>;
}

export interface PackSpec {
  readonly instanceId: InstanceId;
  /** Those without memory are disks that a restore has put aside. */
  readonly images: readonly (ImageRef & { readonly diskAlone?: boolean })[];
}

export interface UnpackSpec {
  readonly instanceId: InstanceId;
  readonly key: Uint8Array;
  readonly parcel: Parcel;
  readonly diskAlone?: boolean;
}

export interface InstanceHandle {
  readonly instanceId: InstanceId;
  readonly slot: number;
  /** The address that the guest listens on, and its port. */
  readonly host: string;
  readonly port: number;
  /** Whom its programs ask for names, by an address of its own. Absent: as its files say. */
  readonly nameserver?: string;
}

/** Whether a restore or a verify failed because the image is not what was written: trying it again cannot help, an older one may. */
export function isDamage(error: unknown): boolean {
  return error instanceof Failure && error.details?.['image'] === 'damaged';
}

/** Whether an instance runs, and its guest has said nothing for as long as it was waited for: the host may be slow, or the guest never will. */
export function isSilence(error: unknown): boolean {
  return error instanceof Failure && error.details?.['guest'] === 'silent';
}

/**
 * Whether a restore failed at the image's own, and not at the place that is made for it beforehand: the host may be in trouble, or the image beyond gVisor.
 * One that ran out of time is not meant: how long it takes is a matter of its size and of the disk.
 */
export function isOfImage(error: unknown): boolean {
  if (isSilence(error)) return true;
  if (!(error instanceof Failure) || error.retryable) return false;
  const verb = error.details?.['verb'];
  return verb === undefined || verb === 'sandbox.restore';
}

/** What the host says of an instance now. `absent`: nothing of it runs. */
export interface InstanceFacts {
  readonly state: 'absent' | 'starting' | 'running' | 'frozen';
  readonly pid?: number;
  /** Start time of the process in clock ticks: with the pid it names one process for ever. */
  readonly startTicks?: number;
  readonly memoryMib?: number;
  readonly cpuUsageNs?: number;
  /** How often the kernel killed something of it for want of memory. */
  readonly oomKills?: number;
  /** What is known of its end, while the host still knows. */
  readonly death?: Death;
}

/** How an instance ended (packages/hostd/PROTOCOL.md, "How a sandbox died"). */
export interface Death {
  /** One of hostd's causes; a later hostd may know more of them. */
  readonly cause: string;
  readonly exitCode?: number;
  /** Its number. */
  readonly signal?: number;
  /** The isolation's last words. A tenant may have a hand in them: text for people, nothing to decide by. */
  readonly said?: string;
}

/** What one page-out came to. */
export interface LeanFacts {
  readonly tookMs: number;
  /** What of the instance is in RAM and in swap now. */
  readonly memoryMib: number;
  readonly swapMib: number;
  /** It stopped before it was done. */
  readonly gaveWay: boolean;
}

export interface InstanceUsage {
  /** In RAM. */
  readonly memoryMib: number;
  readonly swapMib: number;
  readonly cpuUsageNs: number;
  readonly txBytes: number;
  readonly rxBytes: number;
  readonly diskMib?: number;
}

export interface VolumeUsage {
  readonly usedMib: number;
  readonly limitMib: number;
}

/** Where the instances' directory of volumes is inside. */
export const VOLUMES_DIR = '/torpor/vol';

export interface DriverCapacity {
  readonly memoryMib: number;
  readonly memoryFreeMib: number;
  /** All that disks may take together. */
  readonly diskMib: number;
  readonly diskFreeMib: number;
  readonly swap: readonly SwapArea[];
  /** Share of the last ten seconds, 0 to 1, in which somebody on the host waited for memory. */
  readonly memoryPressure: number;
}

export interface InstanceDriver {
  readonly name: string;
  readonly isolation: Isolation;
  /** Templates that instances can be made from, by name and alias. */
  readonly templates: readonly string[];
  /** What images that are made here need where they are to wake. Known once `prepare` has ended. */
  readonly make: Make;
  /** Names the isolation, the guest and the templates that instances are made of now; equal names, equal makes. Known once `prepare` has ended. */
  readonly build: string;
  /** Makes ready what the node shares: pool of disks, network table. Twice is once. */
  prepare(): Promise<void>;
  /** The steps that make the instance; after the last one the guest answers with the boot token. */
  createSteps(spec: InstanceSpec): readonly Step[];
  /** The steps that leave nothing of it, images included. */
  destroySteps(instance: { instanceId: InstanceId; slot: number; images?: readonly string[] }): readonly Step[];
  /**
   * The steps that make an image of a paused instance, which stays paused whatever becomes of them: save, snapshot of the disks, seal, and verify by
   * reading it back. `told` hears what each came to. The first fails as `gone` when the instance is dead. An image that was not sealed is none.
   */
  storeSteps(spec: StoreSpec, told: (facts: Partial<StoreFacts>) => void): readonly Step[];
  /** The steps that let go of its RAM; disks, images and its place on the host's network stay. */
  releaseSteps(instance: { instanceId: InstanceId }): readonly Step[];
  /** The steps that make it run again from an image; after the last one its guest answers. What a failed try left goes first. See `isDamage`. */
  restoreSteps(spec: RestoreSpec): readonly Step[];
  /** As `createSteps`, on the disk that it has, or that `disk` says: what ran is gone, its files stay. */
  bootSteps(spec: InstanceSpec, disk?: BootDisk): readonly Step[];
  /** The step that removes images, sealed or not, and snapshots kept under such names. Absent ones are removed already. */
  forgetSteps(spec: { instanceId: InstanceId; images: readonly string[] }): readonly Step[];
  /** The step that makes parcels of sealed images; `told` hears of each. One that is there is left alone. */
  packSteps(spec: PackSpec, told: (parcel: Parcel) => void): readonly Step[];
  /** The steps that make the image that a parcel holds, read back and compared with what was packed; the parcel goes. See `isDamage`. */
  unpackSteps(spec: UnpackSpec): readonly Step[];
  /** The step that removes parcels, whole or not. */
  unpackedSteps(spec: { instanceId: InstanceId; images: readonly string[] }): readonly Step[];
  readonly parcels: ParcelFiles;
  /** The steps that make a volume, or give the one that there is this size. `from`: what a new one is a copy of. */
  volumeSteps(spec: { readonly volume: VolumeId; readonly sizeMib: number; readonly from?: VolumeId }): readonly Step[];
  /** The steps that leave nothing of a volume that is attached nowhere. */
  dropVolumeSteps(spec: { readonly volume: VolumeId }): readonly Step[];
  /** The steps that make a volume appear in an instance's directory of volumes, running or not. */
  attachSteps(spec: PlacedVolume & { readonly instanceId: InstanceId }): readonly Step[];
  /** And disappear. Nothing inside may use it. */
  detachSteps(spec: PlacedVolume & { readonly instanceId: InstanceId }): readonly Step[];
  /** Of each that exists. `at`: where the caller knows it to be attached. */
  volumeUsage(
    volumes: readonly {
      readonly volume: VolumeId;
      readonly at?: { readonly instanceId: InstanceId; readonly name: string } | undefined;
    }[],
  ): Promise<ReadonlyMap<VolumeId, VolumeUsage>>;
  /** Files of sealed images, without attached volumes. Fails as `too_large`, naming the limit, as `not_found` when no image has anything at `under`. */
  compareFiles(spec: CompareSpec): Promise<FileComparison>;
  /** Lays ready what a merge takes from a sealed image; one for an instance at a time. Fails as `too_large`, naming the limit. */
  packFiles(spec: PackFilesSpec): Promise<PackedFiles>;
  /** All images on the host. */
  images(): Promise<readonly { readonly image: string; readonly sealed: boolean; readonly bytes: number }[]>;
  handle(spec: { instanceId: InstanceId; slot: number }): InstanceHandle;
  /** Stops all its tasks and timers; answers when the kernel says so. No CPU is used from then on. */
  pause(instanceId: InstanceId): Promise<{ tookMs: number }>;
  /** Undoes `pause`. Resuming a running instance changes nothing. */
  resume(instanceId: InstanceId): Promise<{ tookMs: number }>;
  /**
   * Has the memory of a paused instance paged out, as far as it gets in `budgetMs` and until the signal aborts; the instance stays paused whatever comes
   * of it. Done twice, the second goes on where the first ended. Fails as `unprocessable` where the host has no swap, as `no_capacity` where that is full.
   */
  lean(instanceId: InstanceId, options: { budgetMs: number; giveWay: AbortSignal }): Promise<LeanFacts>;
  inspect(instanceId: InstanceId): Promise<InstanceFacts>;
  /** Of each that exists. One of which nothing runs uses disk alone. */
  usage(instanceIds: readonly InstanceId[]): Promise<ReadonlyMap<InstanceId, InstanceUsage>>;
  /** Every instance of which anything exists on the host, and the slots in use. */
  inventory(): Promise<{ instanceIds: readonly InstanceId[]; slots: readonly number[] }>;
  capacity(): Promise<DriverCapacity>;
  /** Speaks to the guest of a running instance. The caller closes it. It connects with the first call and may be kept over pause and resume. */
  guest(handle: InstanceHandle, token: string): Guest;
  /** Lets go of the host. Instances and guests live on. */
  close(): void;
}
