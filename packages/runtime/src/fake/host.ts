import { Failure, systemClock, type Chance, type Clock } from '@torpor/kernel';
import type { InstanceId } from '@torpor/contracts';
import type { Death, InstanceFacts, InstanceUsage } from '../port.ts';
import { FakeFiles } from './files.ts';
import { Gate } from './gate.ts';
import type { FakeImage, FakeKeptVolume, FakeMemory } from './image.ts';
import { FakeParcels } from './parcels.ts';
import { FakeMachine } from './machine.ts';
import { FAKE_PROGRAMS, type FakeProgram } from './programs.ts';

/** Verbs that can be made to fail or to take time. */
export type FakeVerb =
  | 'node.prepare'
  | 'disk.create'
  | 'net.create'
  | 'sandbox.create'
  | 'sandbox.start'
  | 'guest.health'
  | 'sandbox.pause'
  | 'sandbox.resume'
  | 'sandbox.lean'
  | 'sandbox.state'
  | 'sandbox.stats'
  | 'sandbox.delete'
  | 'net.delete'
  | 'disk.delete'
  | 'image.save'
  | 'disk.snapshot'
  | 'image.seal'
  | 'image.verify'
  | 'image.delete'
  | 'image.list'
  | 'parcel.pack'
  | 'parcel.unpack'
  | 'parcel.delete'
  | 'sandbox.restore'
  | 'disk.restore'
  | 'volume.create'
  | 'volume.delete'
  | 'volume.attach'
  | 'volume.detach'
  | 'volume.restore'
  | 'volume.stats'
  | 'files.compare'
  | 'files.pack'
  | 'inventory';

export interface FakeHostOptions {
  readonly clock?: Clock;
  /** Needed only for latencies. */
  readonly chance?: Chance;
  /** How long a verb takes, from and to, in ms; absent: no time. */
  readonly latencyMs?: Partial<Record<FakeVerb, readonly [number, number]>>;
  readonly memoryMib?: number;
  /** What an instance takes of it that runs nothing. Default 30. */
  readonly instanceMib?: number;
  readonly diskMib?: number;
  /** 0: none. */
  readonly swapMib?: number;
  /** Further programs of every instance. */
  readonly programs?: Readonly<Record<string, FakeProgram>>;
}

/** What of an instance is never paged out. */
const KERNEL_MIB = 12;

interface FakeDisk {
  readonly mib: number;
  usedMib: number;
  readonly files: FakeFiles;
}

interface FakeVolume {
  readonly mib: number;
  readonly files: FakeFiles;
  readonly at: { readonly instanceId: InstanceId; readonly name: string } | undefined;
}

interface FakeSandbox {
  readonly pid: number;
  readonly startTicks: number;
  readonly memoryMib: number;
  readonly gate: Gate;
  machine: FakeMachine;
  /** Its guest answers nothing, and all the rest of it goes on. */
  isSilent: boolean;
  started: boolean;
  /** Of its memory. */
  swappedMib: number;
  cpuUsageNs: number;
  oomKills: number;
  txBytes: number;
  rxBytes: number;
}

/**
 * A host in memory. It outlives drivers and node-agents as a real one does: make a new `fakeDriver(host)` on the same host to play their restart.
 * Everything a test may do to a host by force is a method here.
 */
export class FakeHost {
  readonly clock: Clock;
  readonly disks = new Map<InstanceId, FakeDisk>();
  readonly images = new Map<string, FakeImage>();
  readonly parcels = new FakeParcels();
  readonly volumes = new Map<string, FakeVolume>();
  readonly nets = new Map<InstanceId, { slot: number }>();
  readonly sandboxes = new Map<InstanceId, FakeSandbox>();
  readonly #options: FakeHostOptions;
  readonly #failures: { verb: FakeVerb; when: 'before' | 'after'; error: Error }[] = [];
  /** Every verb carried out, with what it was for, oldest first. */
  readonly calls: { verb: FakeVerb; instanceId?: InstanceId }[] = [];
  /** How those ended that a test had end in a particular way. */
  readonly #deaths = new Map<InstanceId, Death>();
  readonly #silent = new Set<string>();
  #isSilent = false;
  #pids = 1000;
  /** What its isolation, guest and templates are called; an upgrade changes it. */
  build = 'fake-1';
  /** By others than instances. */
  memoryTakenMib = 0;
  /** Share of the last ten seconds in which somebody waited for memory. */
  memoryPressure = 0;
  cpuFeatures: readonly string[] = ['fpu'];

  constructor(options: FakeHostOptions = {}) {
    this.#options = options;
    this.clock = options.clock ?? systemClock;
  }

  /** The next such verb fails before or after it did its work. The default error is a retryable `unavailable`. */
  failNext(verb: FakeVerb, when: 'before' | 'after', error?: Error): void {
    const failure =
      error ?? new Failure('unavailable', `failpoint: "${verb}" failed ${when} its work`, { retryable: true });
    this.#failures.push({ verb, when, error: failure });
  }

  /**
   * The sandbox's processes die, as by SIGKILL of the sentry; its disk and network stay. Calls under way hear nothing of it until their guest is closed
   * or their time is over, as in reality.
   */
  kill(instanceId: InstanceId, death?: Death): void {
    const sandbox = this.sandboxes.get(instanceId);
    if (!sandbox) return;
    if (death) this.#deaths.set(instanceId, death);
    sandbox.gate.kill();
    sandbox.machine.kill();
    this.sandboxes.delete(instanceId);
  }

  /** The host loses power: nothing runs any more, disks stay. */
  reboot(): void {
    for (const instanceId of this.sandboxes.keys()) this.kill(instanceId);
    this.nets.clear();
  }

  /** The kernel kills something in it for want of memory. */
  oomKill(instanceId: InstanceId): void {
    this.sandbox(instanceId).oomKills += 1;
  }

  /** Carries a verb out with its latency and failpoints. */
  async act<T>(verb: FakeVerb, instanceId: InstanceId | undefined, work: () => T | Promise<T>): Promise<T> {
    this.#fail(verb, 'before');
    await this.#latency(verb);
    const result = await work();
    this.calls.push(instanceId ? { verb, instanceId } : { verb });
    this.#fail(verb, 'after');
    return result;
  }

  /** An empty disk, unless it has one. */
  createDisk(instanceId: InstanceId, mib: number): void {
    const before = this.disks.get(instanceId);
    const files = before?.files ?? new FakeFiles(() => this.clock.nowMs());
    this.disks.set(instanceId, { mib, usedMib: before?.usedMib ?? 0, files });
  }

  createSandbox(instanceId: InstanceId, bootToken: string, memoryMib: number): void {
    if (this.sandboxes.has(instanceId)) return;
    const disk = this.disks.get(instanceId);
    if (!disk || !this.nets.has(instanceId)) {
      throw new Failure('internal', `instance ${instanceId} has no disk or no network yet`);
    }
    const gate = new Gate();
    this.#pids += 1;
    const volume = (name: string) => this.attachedTo(instanceId).find(({ at }) => at?.name === name)?.files;
    const inside = { clock: this.clock, gate, spend: (ns: number) => void (sandbox.cpuUsageNs += ns), volume };
    const machine = new FakeMachine(inside, disk.files, { token: bootToken }, this.#programs());
    const sandbox: FakeSandbox = {
      pid: this.#pids,
      startTicks: this.#pids * 10,
      memoryMib,
      gate,
      machine,
      isSilent: this.#isSilent,
      started: false,
      swappedMib: 0,
      cpuUsageNs: 0,
      oomKills: 0,
      txBytes: 0,
      rxBytes: 0,
    };
    this.sandboxes.set(instanceId, sandbox);
  }

  /** Makes a sandbox that was only created into what an image holds. Its disk must be what it was then. */
  restoreSandbox(instanceId: InstanceId, name: string, key: string): void {
    const sandbox = this.sandbox(instanceId);
    const { memory, files } = this.readImage(name, key);
    if (sandbox.started) throw new Failure('conflict', `sandbox ${instanceId} has been started already`);
    if (sandbox.machine.files.fingerprint() !== files.fingerprint()) {
      throw new Failure('internal', `the memory of image ${name} was to go on over a disk that has changed since`);
    }
    for (const { name: place, files: then } of this.images.get(name)?.volumes ?? []) {
      const now = sandbox.machine.inside.volume(place);
      if (now?.fingerprint() === then.fingerprint()) continue;
      throw new Failure('internal', `the memory of image ${name} was to go on over a volume that has changed since`);
    }
    const { inside } = sandbox.machine;
    sandbox.machine = new FakeMachine(inside, sandbox.machine.files, memory, this.#programs());
    sandbox.isSilent ||= this.#silent.has(name);
    sandbox.started = true;
  }

  /** A sealed image, read whole. */
  readImage(name: string, key: string): { memory: FakeMemory; files: FakeFiles } {
    const image = this.images.get(name);
    const isWhole = image?.manifest !== undefined && image.memory && image.files;
    if (!isWhole || image.isDamaged || image.key !== key) {
      throw new Failure('unprocessable', `image ${name} is not whole, or its key is another`, {
        details: { image: 'damaged' },
      });
    }
    return { memory: image.memory, files: image.files };
  }

  attachedTo(instanceId: InstanceId): (FakeVolume & { readonly volume: string })[] {
    return [...this.volumes]
      .filter(([, { at }]) => at?.instanceId === instanceId)
      .map(([volume, rest]) => ({ volume, ...rest }));
  }

  /** Makes it, or gives the one that is there this size. `files`: what a new one holds. */
  holdVolume(volume: string, mib: number, files?: FakeFiles): void {
    const there = this.volumes.get(volume);
    const own = there?.files ?? files?.copy() ?? new FakeFiles(() => this.clock.nowMs(), ['/']);
    this.volumes.set(volume, { mib, files: own, at: there?.at });
  }

  volume(volume: string): FakeVolume {
    const found = this.volumes.get(volume);
    if (!found) throw new Failure('not_found', `there is no volume ${volume}`);
    return found;
  }

  attachVolume(volume: string, at: NonNullable<FakeVolume['at']>): void {
    const there = this.volume(volume);
    if (there.at && (there.at.instanceId !== at.instanceId || there.at.name !== at.name)) {
      throw new Failure('unavailable', `volume ${volume} is attached to instance ${there.at.instanceId}`);
    }
    this.volumes.set(volume, { ...there, at });
  }

  detachVolume(volume: string): void {
    this.volumes.set(volume, { ...this.volume(volume), at: undefined });
  }

  detachAll(instanceId: InstanceId): void {
    for (const { volume } of this.attachedTo(instanceId)) this.detachVolume(volume);
  }

  /** What an image, or a disk that was put aside, holds of a volume. */
  keptVolume(image: string, volume: string): FakeKeptVolume {
    const kept = this.images.get(image)?.volumes?.find((one) => one.volume === volume);
    if (!kept) throw new Failure('not_found', `image ${image} holds no volume ${volume}`);
    return kept;
  }

  /** An instance's disk and volumes as they are now. */
  disksOf(instanceId: InstanceId): Pick<FakeImage, 'files'> & Required<Pick<FakeImage, 'volumes'>> {
    const volumes = this.attachedTo(instanceId).map(({ volume, at, mib, files }) => ({
      volume,
      mib,
      name: at?.name ?? '',
      files: files.copy(),
    }));
    return { files: this.disks.get(instanceId)?.files.copy(), volumes };
  }

  /** Adds what a step found to an image that is not sealed yet. */
  addToImage(name: string, part: Partial<FakeImage>): void {
    const before = this.images.get(name);
    if (before?.manifest !== undefined) throw new Failure('conflict', `image ${name} is sealed`);
    const nothing = { key: '', memory: undefined, files: undefined, manifest: undefined, isDamaged: false };
    this.images.set(name, { ...nothing, ...before, ...part });
  }

  /** Guests that come from that image will not answer. */
  silence(name: string): void {
    this.#silent.add(name);
  }

  /** Whether guests that start from now on answer: the host is too slow for them. */
  stall(isSilent: boolean): void {
    this.#isSilent = isSilent;
  }

  /** Somebody flips a byte of it. */
  damage(name: string): void {
    const image = this.images.get(name);
    if (image) this.images.set(name, { ...image, isDamaged: true });
  }

  #programs(): Readonly<Record<string, FakeProgram>> {
    return { ...FAKE_PROGRAMS, ...this.#options.programs };
  }

  sandbox(instanceId: InstanceId): FakeSandbox {
    const sandbox = this.sandboxes.get(instanceId);
    if (!sandbox) throw new Failure('not_found', `no sandbox of instance ${instanceId} is on this host`);
    return sandbox;
  }

  facts(instanceId: InstanceId): InstanceFacts {
    const sandbox = this.sandboxes.get(instanceId);
    const death = this.#deaths.get(instanceId);
    if (!sandbox) return { state: 'absent', ...(death ? { death } : {}) };
    return {
      state: !sandbox.started ? 'starting' : sandbox.gate.isShut ? 'frozen' : 'running',
      pid: sandbox.pid,
      startTicks: sandbox.startTicks,
      memoryMib: this.#memoryMib(sandbox),
      cpuUsageNs: sandbox.cpuUsageNs,
      oomKills: sandbox.oomKills,
    };
  }

  usage(instanceId: InstanceId): InstanceUsage | undefined {
    const sandbox = this.sandboxes.get(instanceId);
    const diskMib = this.disks.get(instanceId)?.usedMib;
    if (diskMib === undefined) return undefined;
    if (!sandbox) return { memoryMib: 0, swapMib: 0, cpuUsageNs: 0, txBytes: 0, rxBytes: 0, diskMib };
    const { cpuUsageNs, txBytes, rxBytes, swappedMib } = sandbox;
    return { memoryMib: this.#memoryMib(sandbox), swapMib: swappedMib, cpuUsageNs, txBytes, rxBytes, diskMib };
  }

  get swap(): { sizeMib: number; usedMib: number } {
    const usedMib = [...this.sandboxes.values()].reduce((sum, { swappedMib }) => sum + swappedMib, 0);
    return { sizeMib: this.#options.swapMib ?? 8_192, usedMib };
  }

  /** Pages out what there is room for of a paused one, but for the kernel around it. */
  pageOut(instanceId: InstanceId): void {
    const sandbox = this.sandbox(instanceId);
    const { sizeMib, usedMib } = this.swap;
    if (sizeMib === 0) throw new Failure('unprocessable', 'this host has no swap');
    if (!sandbox.gate.isShut) throw new Failure('bad_request', `instance ${instanceId} is not paused`);
    const wantedMib = this.#memoryMib(sandbox) - KERNEL_MIB;
    const takenMib = Math.min(wantedMib, sizeMib - usedMib);
    sandbox.swappedMib += takenMib;
    if (takenMib < wantedMib) throw new Failure('no_capacity', "the host's swap is full");
  }

  /** What runs needs its memory back. */
  pageIn(instanceId: InstanceId): void {
    this.sandbox(instanceId).swappedMib = 0;
  }

  get memory(): { totalMib: number; freeMib: number } {
    const totalMib = this.#options.memoryMib ?? 16_384;
    const used = [...this.sandboxes.values()].reduce((sum, sandbox) => sum + this.#memoryMib(sandbox), 0);
    return { totalMib, freeMib: totalMib - used - this.memoryTakenMib };
  }

  get diskMib(): number {
    return this.#options.diskMib ?? 65_536;
  }

  get diskFreeMib(): number {
    return this.diskMib - [...this.disks.values()].reduce((sum, disk) => sum + disk.mib, 0);
  }

  #memoryMib(sandbox: FakeSandbox): number {
    return (this.#options.instanceMib ?? 30) + sandbox.machine.running.length - sandbox.swappedMib;
  }

  #fail(verb: FakeVerb, when: 'before' | 'after'): void {
    const at = this.#failures.findIndex((failure) => failure.verb === verb && failure.when === when);
    if (at < 0) return;
    const [failure] = this.#failures.splice(at, 1);
    throw failure?.error;
  }

  async #latency(verb: FakeVerb): Promise<void> {
    const range = this.#options.latencyMs?.[verb];
    if (!range) return;
    const [from, to] = range;
    await this.clock.after(from + (this.#options.chance?.fraction() ?? 0.5) * (to - from));
  }
}
