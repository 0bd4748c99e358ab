/**
 * The snapshots of one instance: made of it whatever it is doing, gone back to, lent to those who make forks of them, and let go. At most one is being
 * saved at a time; any number are being sealed and read back while the instance goes on.
 */
import type { SnapshotLimits } from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import { broughtBack } from '../images/restored-volumes.ts';
import { outlived, type SnapshotPolicy } from '../images/retention.ts';
import { restsInRam, type StandbyState } from '@torpor/policy';
import type { Shelving } from '../images/shelving.ts';
import { assertRoom, snapshotOnHost, type Snapshotting } from '../images/snapshot.ts';
import { releaseOnHost, storeOnHost, type Sleeper } from '../images/store.ts';
import type { Kept, KeptSnapshot, SnapshotNote } from '../journal/index.ts';
import type { Parts } from '../parts.ts';
import type { Line } from './line.ts';

/** The instance that they are of. */
export interface Portrayed {
  readonly line: Line;
  state(): StandbyState;
  sleeper(): Sleeper;
  who(): object;
  /** What follows has begun when this returns. */
  happen(what: 'snapshot-asked' | 'rewind-asked'): void;
  /** Its own, where they differ from the node's. */
  limits(): SnapshotLimits | undefined;
  /** Counts what runs in it, for the receipts of those who come from this moment. */
  count(): Promise<void>;
  /** Resolves when its generation is on record here. */
  raised(): Promise<void>;
  /** Resolves when it is awake. */
  wake(signal?: AbortSignal): Promise<void>;
  refusal(): Failure;
}

interface Asked {
  readonly note: SnapshotNote;
  readonly made: PromiseWithResolvers<KeptSnapshot>;
}

interface Rewind {
  readonly to: Kept;
  /** What it was before, when that could be kept. */
  readonly gone: PromiseWithResolvers<KeptSnapshot | undefined>;
}

/** What the instance's table is to be told of a rewind. */
type Rewound = 'release-done' | 'release-failed' | 'release-cut';

/** How often an ask looks again at an instance that was doing something else. */
const LOOKS_MAX = 20;

export class Snapshots {
  readonly #parts: Parts;
  readonly #shelving: Shelving;
  readonly #host: Portrayed;
  readonly #ends = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  /** How many forks are being made of an image. */
  readonly #lent = new Map<string, number>();
  #asked: Asked | undefined;
  #rewind: Rewind | undefined;
  /** The image that it woke from last. */
  #cameFrom: string | undefined;

  constructor(parts: Parts, shelving: Shelving, host: Portrayed) {
    this.#parts = parts;
    this.#shelving = shelving;
    this.#host = host;
  }

  /** Resolves when it is whole: saved, sealed, and read back. A running instance waits for the save alone. */
  async make(note: SnapshotNote): Promise<KeptSnapshot> {
    return await this.#whenItRests(async (state) => {
      this.#assertFree(note.name);
      if (state === 'stored') return await this.#keepNewest(note);
      if (!(await this.#isFit(state))) return undefined;
      this.#assertFree(note.name); // somebody else may have been quicker
      const made = Promise.withResolvers<KeptSnapshot>();
      this.#asked = { note, made };
      this.#host.happen('snapshot-asked');
      return await made.promise;
    });
  }

  /**
   * Back to what a snapshot holds; what it was is kept as another one. Resolves when it is awake again. Rejects when that snapshot will not do, or what it
   * is now could not be stored: then it is as it was.
   */
  rewind(which: string, signal?: AbortSignal): Promise<{ to: Kept; before: KeptSnapshot | undefined }> {
    return this.lend(which, (to) => this.#rewindTo(to, signal));
  }

  async #rewindTo(to: Kept, signal: AbortSignal | undefined) {
    this.#assertHasVolumes(to);
    await this.#host.raised(); // or a restart in the middle would let those in who know it as it was before
    const gone = await this.#whenItRests(async (state) => {
      if (state === 'stored') return await this.#rewindStored(to);
      if (!(await this.#isFit(state))) return undefined;
      const asked = Promise.withResolvers<KeptSnapshot | undefined>();
      this.#rewind = { to, gone: asked };
      this.#host.happen('rewind-asked');
      return { before: await asked.promise };
    });
    this.#cameFrom = undefined;
    await this.#host.wake(signal);
    // Unless it was awake already, and so had woken from there.
    if (this.#cameFrom !== undefined && this.#cameFrom !== to.image) throw damaged(to);
    if (!this.find(to.image)) throw damaged(to);
    this.#parts.events.rewound({ ...this.#host.who(), image: to.image, before: gone.before?.image });
    return { to, before: gone.before };
  }

  /** What only the snapshot needed of the disk is free when this resolves. */
  async remove(which: string): Promise<Kept> {
    const gone = this.known(which);
    const { image } = gone;
    if (this.#isInUse(image)) {
      const use = 'a fork is being made of it, or the sandbox is going back to it, or to another node';
      throw new Failure('conflict', `the snapshot "${nameOf(gone)}" is in use: ${use}`, { retryable: true });
    }
    await this.#shelving.unkeep(image);
    await this.#shelving.sweep();
    return gone;
  }

  /** Stays while `use` runs. What the instance sleeps in, or woke from last, is kept as a snapshot from then on. */
  async lend<T>(which: string, use: (snapshot: Kept) => Promise<T>): Promise<T> {
    const { images } = this.#shelving.shelf;
    const isSleptIn = !this.find(which) && images.some(({ image }) => image === which);
    const snapshot = isSleptIn ? await this.#shelving.keep(which, { because: 'store' }) : this.known(which);
    const { image } = snapshot;
    this.#lent.set(image, (this.#lent.get(image) ?? 0) + 1);
    try {
      return await use(snapshot);
    } finally {
      const left = (this.#lent.get(image) ?? 1) - 1;
      if (left > 0) this.#lent.set(image, left);
      else this.#lent.delete(image);
    }
  }

  /** By its id, which is its image, or by its name. */
  find(which: string): Kept | undefined {
    const all = this.#all;
    return all.find(({ image }) => image === which) ?? all.find(({ name }) => name === which);
  }

  get #all(): Kept[] {
    const { snapshots, asides } = this.#shelving.shelf;
    return [...snapshots, ...asides];
  }

  known(which: string): Kept {
    const found = this.find(which);
    if (!found) {
      throw new Failure('not_found', `this sandbox has no snapshot "${which}"`, { details: { snapshot: which } });
    }
    return found;
  }

  /**
   * The table's `snapshot`, of an instance that has been put to sleep. Resolves when it may run again, with whether it was saved; whoever asked hears
   * what became of it.
   */
  async take(): Promise<boolean> {
    const asked = this.#asked;
    this.#asked = undefined;
    if (!asked) throw new Error('a snapshot was taken that nobody asked for');
    const sinceMs = this.#parts.clock.monotonicMs();
    const { saved, whole } = snapshotOnHost(this.#parts, this.#host.sleeper(), asked.note, this.#ends.signal);
    this.#inBackground(this.#tell(asked, whole, sinceMs));
    return await saved.then(
      () => true,
      () => false, // said above
    );
  }

  async #tell({ made }: Asked, whole: Snapshotting['whole'], sinceMs: number): Promise<void> {
    const { clock, events, closing } = this.#parts;
    try {
      const { snapshot, facts } = await whole;
      const tookMs = clock.monotonicMs() - sinceMs;
      events.snapshotted({ ...this.#host.who(), image: snapshot.image, tookMs, ...facts });
      made.resolve(snapshot);
    } catch (error) {
      events.snapshotFailed({ ...this.#host.who(), reason: explain(error) });
      made.reject(error);
    }
    if (this.#ends.signal.aborted || closing.aborted) return;
    await this.retire();
    await this.#shelving.sweep();
  }

  /** The table's `rewind`, of an instance that has been put to sleep. */
  async goBack(): Promise<Rewound> {
    const rewind = this.#rewind;
    this.#rewind = undefined;
    if (!rewind) throw new Error('an instance went back that nobody asked to');
    let isCovered = false;
    try {
      const sleeper = this.#host.sleeper();
      await storeOnHost(this.#parts, sleeper, new AbortController().signal);
      const before = await this.#keep(this.#shelving.newest, { because: 'restore' });
      isCovered = true;
      await releaseOnHost(this.#parts, sleeper, () => false);
      await this.#shelving.rewind(rewind.to.image);
      rewind.gone.resolve(before);
      return 'release-done';
    } catch (error) {
      this.#tellRewindFailed(rewind, error);
      return isCovered ? 'release-failed' : 'release-cut';
    }
  }

  /** The instance could not be put to sleep for what was asked. */
  refuse(why: unknown): void {
    this.#asked?.made.reject(why);
    this.#asked = undefined;
    if (this.#rewind) this.#tellRewindFailed(this.#rewind, why);
    this.#rewind = undefined;
  }

  /** The instance woke from an image. */
  cameFrom(image: string | undefined): void {
    this.#cameFrom = image;
  }

  /** The instance ends: what is under way is given up. */
  async giveUp(): Promise<void> {
    const failure = new Failure('gone', 'the sandbox ended while its snapshot was made');
    this.refuse(failure);
    this.#ends.abort(failure);
    await this.settled();
  }

  /** Resolves when those under way have ended. */
  async settled(): Promise<void> {
    await Promise.all(this.#underWay);
  }

  /** Lets those go that have outlived the policy for them. */
  async retire(): Promise<void> {
    for (const { image } of this.#outlived()) {
      if (!this.#isInUse(image)) await this.#shelving.unkeep(image);
    }
  }

  /** In the background, if there is anything to do: they age though nothing happens to their instance. */
  growOld(): void {
    if (this.#underWay.size > 0 || this.#outlived().length === 0) return;
    this.#inBackground(this.retire().then(() => this.#shelving.sweep()));
  }

  /** What it sleeps in stays as a snapshot, where the policy says so. */
  stored(): void {
    if ((this.#policy.storesMax ?? 0) === 0) return;
    this.#inBackground(this.#keep(this.#shelving.newest, { because: 'store' }).then(() => this.retire()));
  }

  get #policy(): SnapshotPolicy {
    const { snapshotPolicy } = this.#parts;
    const own = this.#host.limits();
    return { ...snapshotPolicy, ...own, automaticMax: own?.automaticMax ?? snapshotPolicy.automaticMax };
  }

  #outlived(): Kept[] {
    return outlived(this.#all, this.#policy, this.#parts.clock.nowMs());
  }

  /** What a node-agent before this one left half made is removed. */
  clearUp(): void {
    if (this.#shelving.shelf.trash.length > 0) this.#inBackground(this.#shelving.sweep());
  }

  #isDisk(image: string | undefined): boolean {
    return this.#shelving.shelf.asides.some((one) => one.image === image);
  }

  #isInUse(image: string): boolean {
    return this.#lent.has(image) || this.#shelving.shelf.rewound?.image === image || isLeaving(this.#host.state());
  }

  /** Does it as soon as the instance runs, sleeps in RAM, or is stored. `undefined`: it was not so any more, look again. */
  async #whenItRests<T>(work: (state: StandbyState) => Promise<T | undefined>): Promise<T> {
    for (let look = 0; look < LOOKS_MAX; look++) {
      const state = this.#host.state();
      if (state === 'running' || restsInRam(state) || state === 'stored') {
        const done = await work(state);
        if (done !== undefined) return done;
      } else if (!isOnItsWay(state)) {
        throw this.#host.refusal();
      }
      await this.#host.line.settled;
    }
    throw new Failure('unavailable', 'the sandbox does one thing after another; ask again', {
      retryable: true,
      retryAfterS: 1,
    });
  }

  /** Throws when the disk has no room. False: meanwhile it has begun something else. */
  async #isFit(found: StandbyState): Promise<boolean> {
    await assertRoom(this.#parts, this.#host.sleeper());
    if (found === 'running') await this.#host.count();
    const state = this.#host.state();
    return state === 'running' || restsInRam(state);
  }

  /** What it is asleep as is an image already. */
  async #keepNewest(note: SnapshotNote): Promise<KeptSnapshot | undefined> {
    return await this.#whileStored(async () => {
      const { rests, rewound } = this.#shelving.shelf;
      if (rests === 'elsewhere' || this.#isDisk(rewound?.image)) throw nothingWhole();
      return await this.#keep(this.#shelving.newest, note);
    });
  }

  async #rewindStored(to: Kept): Promise<{ before: KeptSnapshot | undefined } | undefined> {
    return await this.#whileStored(async () => {
      const { rests, rewound, images } = this.#shelving.shelf;
      const is = this.#isDisk(rewound?.image) ? rewound?.image : images.at(-1)?.image;
      if (rests !== 'elsewhere' && is === to.image) return { before: undefined }; // it is that already
      const isImage = rests !== 'elsewhere' && !this.#isDisk(is);
      const before = isImage ? await this.#keep(this.#shelving.newest, { because: 'restore' }) : undefined;
      await this.#shelving.rewind(to.image);
      return { before };
    });
  }

  /** In the instance's line, so that it cannot begin to wake meanwhile. `undefined`: it had. */
  async #whileStored<T>(work: () => Promise<T>): Promise<T | undefined> {
    const { line, state } = this.#host;
    const done = Promise.withResolvers<T | undefined>();
    await line.run(async () => {
      const now = state();
      // A restore that was asked for waits in line behind this.
      if (now !== 'stored' && now !== 'restoring') return done.resolve(undefined);
      await work().then(done.resolve, done.reject);
    });
    return await done.promise;
  }

  /** An image that is a snapshot already gets a name, and keeps one. */
  async #keep(image: string, note: SnapshotNote): Promise<KeptSnapshot> {
    const there = this.#shelving.shelf.snapshots.find((one) => one.image === image);
    if (there && note.because !== 'asked') return there;
    if (there?.name !== undefined) {
      throw new Failure('conflict', `what the sandbox is now is kept already, as the snapshot "${there.name}"`);
    }
    return await this.#shelving.keep(image, note);
  }

  /** What it goes back to knows of these. */
  #assertHasVolumes(to: Kept): void {
    const held = this.#parts.volumes.of(this.#host.sleeper().hostId);
    const back = broughtBack(to.volumes ?? [], held, { disk: 'as-then', isAsked: true });
    if (back.kind === 'possible') return;
    const instead = 'attach it again at the same place, or fork the snapshot: a fork has a copy of it';
    throw new Failure('conflict', `the snapshot "${nameOf(to)}" cannot be gone back to: ${back.reason}; ${instead}`);
  }

  #assertFree(name: string | undefined): void {
    if (name === undefined) return;
    const isBegun =
      this.#shelving.shelf.making.some(({ note }) => note.name === name) || this.#asked?.note.name === name;
    if (isBegun || this.find(name)) throw new Failure('conflict', `this sandbox has a snapshot "${name}" already`);
  }

  #tellRewindFailed({ to, gone }: Rewind, error: unknown): void {
    this.#parts.events.rewindFailed({ ...this.#host.who(), image: to.image, reason: explain(error) });
    gone.reject(error);
  }

  #inBackground(work: Promise<void>): void {
    const watched = work.catch((error: unknown) =>
      this.#parts.events.untidy({ ...this.#host.who(), reason: explain(error) }),
    );
    this.#underWay.add(watched);
    void watched.finally(() => this.#underWay.delete(watched));
  }
}

/** All of its snapshots are to go with it, or stay with it. */
function isLeaving(state: StandbyState): boolean {
  return state === 'leaving' || state === 'leaving-fenced' || state === 'travelling';
}

/** It will run, sleep or be stored when what is under way has ended, or is on its way to another node. */
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

function nothingWhole(): Failure {
  return new Failure(
    'conflict',
    'it has no memory as it is, and has not woken since; wake it, then make the snapshot',
    {
      retryable: true,
    },
  );
}

function damaged(snapshot: Kept): Failure {
  return new Failure('unprocessable', `the snapshot "${nameOf(snapshot)}" is damaged; the sandbox is as it was before`);
}

function nameOf({ name, image }: Kept): string {
  return name ?? image;
}
