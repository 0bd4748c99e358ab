/**
 * An instance's way out: it is put to sleep and stored, which gives way to nobody, its images are made into parcels, and from then on nothing wakes it until
 * it is known where it lives. Whatever fails before leaves it as it was.
 */
import type { InstanceEvent, NodeId } from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import { restsInRam, type StandbyState } from '@torpor/policy';
import type { Parcel } from '@torpor/runtime';
import type { Shelving } from '../images/shelving.ts';
import { assertRoom } from '../images/snapshot.ts';
import { releaseOnHost, storeOnHost, type Sleeper } from '../images/store.ts';
import type { KeptDisk, KeptImage, Shelf } from '../journal/index.ts';
import type { Parts } from '../parts.ts';
import type { Line } from '../standby/line.ts';
import type { Waybill } from './waybill.ts';

/** The instance that leaves. */
export interface Leaver {
  readonly line: Line;
  state(): StandbyState;
  sleeper(): Sleeper;
  who(): object;
  happen(what: 'leave-asked' | 'stay-asked'): void;
  /** Resolves when it is awake. */
  wake(): Promise<void>;
  /** Counts what runs, for the receipt of its next wake. */
  note(): Promise<void>;
  /** Resolves when no snapshot of it is being made: those that are whole go with it. */
  portrayed(): Promise<void>;
  refusal(): Failure;
}

/** Whom it leaves for. */
export interface Destination {
  readonly nodeId: NodeId;
  /** Its public key, see `sealWaybill`. */
  readonly key: string;
  /** Only a copy goes there: it lives on here. */
  readonly isCopy?: boolean;
}

/** What the instance's table is to be told of a departure. */
type Left = 'leave-done' | 'leave-cut' | 'leave-failed';

/** How often an ask looks again at an instance that was doing something else. */
const LOOKS_MAX = 20;
const COPY_IDLE_MS = 120_000;

export class Departure {
  readonly #parts: Parts;
  readonly #shelving: Shelving;
  readonly #host: Leaver;
  #asked: { readonly to: Destination; readonly gone: PromiseWithResolvers<void> } | undefined;
  #to: Destination | undefined;
  #touchedAtMs = 0;
  readonly #parcels = new Map<string, Parcel>();

  constructor(parts: Parts, shelving: Shelving, host: Leaver) {
    this.#parts = parts;
    this.#shelving = shelving;
    this.#host = host;
  }

  /** Resolves with the bytes that are to be carried, when all of them are ready. Asked again, it answers the same. */
  async begin(to: Destination): Promise<number> {
    if (this.#host.state() !== 'creating') this.#assertUnbound();
    for (let look = 0; look < LOOKS_MAX; look++) {
      const state = this.#host.state();
      if (state === 'travelling') return await this.#again(to);
      if (state === 'running' || state === 'stored' || restsInRam(state)) {
        if (await this.#couldBegin(state)) return await this.#begin(to);
      } else if (!isOnItsWay(state)) throw this.#host.refusal();
      await this.#host.line.settled;
    }
    throw new Failure('unavailable', 'the sandbox does one thing after another; ask again', {
      retryable: true,
      retryAfterS: 1,
    });
  }

  /** Nothing is stopped for a move that cannot be: a parcel holds no volumes. */
  #assertUnbound(): void {
    const { hostId, claim } = this.#host.sleeper();
    const has = this.#parts.volumes.of(hostId).length > 0 ? 'it has volumes; detach them first' : undefined;
    const bound = this.#shelving.shelf.snapshots.find(holdsVolumes);
    const why = has ?? (bound && `its snapshot "${nameOf(bound)}" holds volumes; delete that first`);
    if (why !== undefined) throw new Failure('unprocessable', `the sandbox "${claim.name}" cannot leave: ${why}`);
  }

  async #couldBegin(state: StandbyState): Promise<boolean> {
    await this.#host.portrayed();
    if (this.#host.state() !== state) return false;
    if (state === 'stored') {
      const { rests, rewound, images } = this.#shelving.shelf;
      const newest = images.at(-1);
      if (rests !== 'elsewhere' && !rewound && newest && !holdsVolumes(newest)) return true;
      // There are its files, an older image, or what it is to go back to: what it is then is what can travel.
      await this.#host.wake();
      return false;
    }
    await assertRoom(this.#parts, this.#host.sleeper());
    if (state === 'running') await this.#host.note();
    return this.#host.state() === state;
  }

  async #begin(to: Destination): Promise<number> {
    const gone = Promise.withResolvers<void>();
    this.#asked = { to, gone };
    this.#host.happen('leave-asked');
    await gone.promise;
    return this.#bytes();
  }

  /** The table's `leave`; the instance has been put to sleep, if it was not. */
  async carryOut(): Promise<Left> {
    const asked = this.#asked;
    this.#asked = undefined;
    if (!asked) throw new Error('an instance left that nobody asked to');
    let isInRam = this.#shelving.shelf.rests === 'elsewhere';
    try {
      const sleeper = this.#host.sleeper();
      if (isInRam) {
        await storeOnHost(this.#parts, sleeper, new AbortController().signal);
        isInRam = false; // what its RAM holds is in the image, and it stands still
        await releaseOnHost(this.#parts, sleeper, () => false);
      }
      await this.#pack(asked.to);
      this.#parts.events.left({ ...this.#host.who(), to: asked.to.nodeId, bytes: this.#bytes() });
      asked.gone.resolve();
      return 'leave-done';
    } catch (error) {
      this.#parts.events.leaveFailed({ ...this.#host.who(), to: asked.to.nodeId, reason: explain(error) });
      await this.#unpack().catch(() => {}); // told already; what is left of it goes with its images
      asked.gone.reject(error);
      return isInRam ? 'leave-cut' : 'leave-failed';
    }
  }

  /** It could not be put to sleep. */
  refuse(why: unknown): void {
    this.#asked?.gone.reject(why);
    this.#asked = undefined;
  }

  /** It lives here after all. */
  async stay(): Promise<void> {
    if (this.#host.state() !== 'travelling') return;
    await this.#host.line.run(async () => {
      if (this.#host.state() !== 'travelling') return;
      await this.#unpack();
      this.#host.happen('stay-asked');
    });
  }

  /** Somebody fetches something of it. */
  touched(): void {
    this.#touchedAtMs = this.#parts.clock.monotonicMs();
  }

  /** Of whom only a copy is carried away: should its carrier be gone, it must not sleep for ever. */
  async #stayWhenForgotten(): Promise<void> {
    const { clock, closing, events } = this.#parts;
    this.touched();
    try {
      while (this.#to?.isCopy === true && !closing.aborted) {
        const leftMs = this.#touchedAtMs + COPY_IDLE_MS - clock.monotonicMs();
        if (leftMs <= 0) return await this.stay();
        await clock.after(leftMs, closing);
      }
    } catch (error) {
      if (!closing.aborted) events.bug({ where: 'copy of an instance', reason: explain(error) });
    }
  }

  /** What goes with it. Throws when it is not ready to go to that node. */
  async waybill(): Promise<{ waybill: Waybill; to: Destination }> {
    const { claim, spec, hostId } = this.#host.sleeper();
    const { snapshots, count } = this.#shelving.shelf;
    const images = movable(this.#shelving.shelf);
    const to = this.#to;
    if (this.#host.state() !== 'travelling' || !to) throw notReady();
    const { nodeKey, journal, receipts } = this.#parts;
    const history = [...(await journal.history(hostId)), ...this.#leftBehind()];
    const past = { history, receipts: await receipts.of(hostId) };
    const asides = this.#asides().map(({ image, atMs, name: called }) => {
      const parcel = this.#parcels.get(image);
      if (!parcel) throw notReady();
      const key = Buffer.from(nodeKey.ofDisk(image)).toString('base64');
      return { parcel, key, atMs, ...(called ? { name: called } : {}) };
    });
    const { instanceId, workspace, name, token, workdir, sealedEnv } = claim;
    const { idle, wakeBudget, snapshotLimits } = claim;
    const policy = { idle, ...(wakeBudget ? { wakeBudget } : {}), ...(snapshotLimits ? { snapshotLimits } : {}) };
    const { template, shape, bootToken } = spec;
    const env = sealedEnv === undefined ? '{}' : nodeKey.open(workspace, 'env', sealedEnv).toString();
    const travelling = (kept: KeptImage) => {
      const { image, sealedKey, atMs, bytes, memoryBytes, census, generation = claim.generation } = kept;
      const parcel = this.#parcels.get(image);
      if (!parcel) throw notReady();
      const key = nodeKey.open(workspace, image, sealedKey).toString('base64');
      return { parcel, key, atMs, bytes, memoryBytes, generation, ...(census ? { census } : {}) };
    };
    const who = { instanceId, hostId, workspace, name, token, bootToken, workdir, env, ...policy, template, shape };
    const kept = snapshots.map((one) => {
      const { name: called, because, by } = one;
      return { ...travelling(one), note: { because, ...(called ? { name: called } : {}), ...(by ? { by } : {}) } };
    });
    const all = { images: images.map(travelling), snapshots: kept, asides };
    return { waybill: { version: 1, ...who, ...all, count, ...past }, to };
  }

  /** Disks that fall-backs have put aside, but for those with volumes. */
  #asides(): KeptDisk[] {
    return this.#shelving.shelf.asides.filter(({ volumes = [] }) => volumes.length === 0);
  }

  /** What else a fall-back has put aside ends with the instance here: its history says so where it goes. */
  #leftBehind(): InstanceEvent[] {
    const [atMs, reason] = [this.#parts.clock.nowMs(), 'it was put aside, and does not travel'];
    const { asides, disks } = this.#shelving.shelf;
    const bound = asides.filter((one) => !this.#asides().includes(one));
    const left: { image: string; name?: string | undefined }[] = [...bound, ...disks.map((image) => ({ image }))];
    return left.map(({ image, name }) => ({ atMs, what: 'let go', image, ...(name ? { name } : {}), reason }));
  }

  /** Whether this file is one that travels. */
  carries(image: string, file: string): boolean {
    return this.#parcels.get(image)?.files.some(({ name }) => name === file) === true;
  }

  /** After a restart of the node-agent the parcels are there and not known. */
  async #again(to: Destination): Promise<number> {
    const { leaving } = this.#shelving.shelf;
    const isSame = to.isCopy === true ? leaving === undefined : leaving === to.nodeId;
    if (!isSame) {
      const way = leaving === undefined ? 'a copy of it is being made' : `it is on its way to node "${leaving}"`;
      throw new Failure('conflict', `the sandbox cannot leave for "${to.nodeId}" now: ${way}`, { retryable: true });
    }
    await this.#host.line.run(async () => {
      if (this.#host.state() === 'travelling') await this.#pack(to);
    });
    return this.#bytes();
  }

  async #pack(to: Destination): Promise<void> {
    const { hostId, claim } = this.#host.sleeper();
    const { driver, journal, nodeKey } = this.#parts;
    const { shelf } = this.#shelving;
    const kept = new Map([...movable(shelf), ...shelf.snapshots].map((one) => [one.image, one.sealedKey]));
    const refs = [...kept].map(([image, sealed]) => ({ image, key: nodeKey.open(claim.workspace, image, sealed) }));
    const disks = this.#asides().map(({ image }) => ({ image, key: nodeKey.ofDisk(image), diskAlone: true }));
    const steps = driver.packSteps({ instanceId: hostId, images: [...refs, ...disks] }, (parcel) =>
      this.#parcels.set(parcel.image, parcel),
    );
    const what =
      to.isCopy === true ? ({ operation: 'copy' } as const) : ({ operation: 'leave', to: to.nodeId } as const);
    const { intent } = await this.#shelving.intend(what, steps);
    await journal.carryOut(intent, steps);
    const isWatched = this.#to?.isCopy === true;
    this.#to = to;
    if (to.isCopy === true && !isWatched) void this.#stayWhenForgotten();
  }

  async #unpack(): Promise<void> {
    if (this.#shelving.shelf.leaving === undefined && !this.#to?.isCopy) return;
    const { hostId } = this.#host.sleeper();
    const steps = this.#parts.driver.unpackedSteps({ instanceId: hostId, images: this.#shelving.names });
    const { intent } = await this.#shelving.intend({ operation: 'stay' }, steps);
    this.#parcels.clear();
    this.#to = undefined;
    await this.#parts.journal.carryOut(intent, steps);
  }

  #bytes(): number {
    const files = [...this.#parcels.values()].flatMap((parcel) => parcel.files);
    return files.reduce((sum, { bytes }) => sum + bytes, 0);
  }
}

/** What it may be woken from. An older image that holds a volume is of a time before its detach: no wake goes back to it, and it stays behind. */
function movable({ images }: Shelf): readonly KeptImage[] {
  return images.filter((image) => !holdsVolumes(image));
}

function holdsVolumes({ volumes = [] }: KeptImage): boolean {
  return volumes.length > 0;
}

function nameOf(kept: KeptImage & { readonly name?: string | undefined }): string {
  return kept.name ?? kept.image;
}

function notReady(): Failure {
  return new Failure('unavailable', 'the sandbox is not ready to leave; its node must be asked to let it go first', {
    retryable: true,
  });
}

/** It will run, sleep or be stored when what is under way has ended. */
function isOnItsWay(state: StandbyState): boolean {
  switch (state) {
    case 'pausing':
    case 'pausing-then-wake':
    case 'waking':
    case 'storing':
    case 'storing-then-wake':
    case 'releasing':
    case 'releasing-then-wake':
    case 'restoring':
    case 'leaving':
      return true;
    default:
      return false;
  }
}
