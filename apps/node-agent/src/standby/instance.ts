/**
 * One claimed instance, as the standby engine drives it: happenings go in, the table (packages/policy) says what follows, and the effects are carried
 * out, operations on the host (`operations.ts`) strictly one after another. Nothing else changes its state.
 */
import {
  isAsleep,
  type Generation,
  type InstanceId,
  type InstanceReport,
  type InstanceState,
  type WakeTier,
} from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import {
  hasQueuedWake,
  isInRam,
  next,
  reported,
  restsInRam,
  type Effect,
  type Happening,
  type StandbyState,
} from '@torpor/policy';
import type { Guest } from '@torpor/runtime';
import { lossOf } from '../images/loss.ts';
import { Shelving } from '../images/shelving.ts';
import type { Sleeper } from '../images/store.ts';
import {
  remaining,
  withPolicy,
  type Claim,
  type Hint,
  type Policy,
  type Process,
  type Shelf,
  type SleepPolicy,
  type Spec,
} from '../journal/index.ts';
import type { UseBody } from '../life/birth.ts';
import type { WokenFork } from '../life/fork.ts';
import type { Body, Parts } from '../parts.ts';
import { Departure, type Destination } from '../moves/departure.ts';
import { countedAs } from '../receipts/check.ts';
import { giveReceipt, type Testimony } from '../receipts/give.ts';
import { Depth } from './depth.ts';
import { Leaning } from './leaning.ts';
import { Line } from './line.ts';
import { Operations } from './operations.ts';
import { Past } from './past.ts';
import { Remnant } from './remnant.ts';
import { misdirected, refusalOf } from './refusal.ts';
import { SleepBook } from './sleep-book.ts';
import { SleepWatch } from './sleep-watch.ts';
import { Snapshots } from './snapshots.ts';
import type { Stay } from './stay.ts';
import { Storing } from './storing.ts';
import { Uses, type UseKind } from './uses.ts';
import { Visits } from './visits.ts';
import { Vitals } from './vitals.ts';

/** Without use, on a host that is short of memory. */
const PRESSED_IDLE_MS = 2_000;
/** How long one that leaves waits for the requests in it to end. Streams are cut then; those that come meanwhile are held. */
const LAST_REQUESTS_MS = 5_000;

/** What carries an instance and speaks to it. */
export interface Hosted extends Body {
  readonly spec: Spec;
  readonly guest: Guest;
}

export interface InstanceOptions {
  readonly parts: Parts;
  readonly claim: Claim;
  /** Absent: not chosen yet; `make` says it. */
  readonly body: Body | undefined;
  /** What was worth keeping of it over a restart. */
  readonly hint?: Hint | undefined;
  /** What is kept of it on the host already. */
  readonly shelf?: Shelf | undefined;
  /** Told after each change of the reported state. */
  readonly changed: (instance: Instance, before: InstanceState) => void;
}

export class Instance {
  readonly uses: Uses;
  readonly past: Past;
  readonly book: SleepBook;
  readonly snapshots: Snapshots;
  readonly departure: Departure;
  readonly depth: Depth;
  readonly #parts: Parts;
  readonly #visits: Visits;
  readonly #line = new Line();
  readonly #vitals: Vitals;
  readonly #operations: Operations;
  readonly #leaning: Leaning;
  readonly #storing: Storing;
  readonly #shelving: Shelving;
  readonly #changed: InstanceOptions['changed'];
  readonly #dead = Promise.withResolvers<void>();
  readonly #gone = Promise.withResolvers<void>();
  /** Snapshots that are to outlive it. */
  #keep: readonly string[] = [];
  #claim: Claim;
  /** Settles when its generation is in its journal. */
  #raised: Promise<void> = Promise.resolve();
  #body: Body | undefined;
  #guest: Guest | undefined;
  #spec: Spec | undefined;
  #state: StandbyState = 'creating';
  #isPressed = false;
  #because = 'request';
  #reason: string | undefined;
  /** Why the next restore will not bring back all that was there. */
  #lost: string | undefined;
  #watch: { stop: AbortController; sleep: SleepWatch } | undefined;
  /** It lives on another node, or nowhere: this is what is left of it here. */
  #hasLeft = false;
  /** Why the last page-out failed. */
  #leanTrouble: string | undefined;

  constructor(options: InstanceOptions) {
    this.#parts = options.parts;
    this.#claim = options.claim;
    this.#body = options.body;
    this.#changed = options.changed;
    this.#vitals = new Vitals(options.parts, {
      hostId: () => this.#hostId,
      guest: () => this.guest,
      isRunning: () => this.#state === 'running',
      died: (reason, ofItself) => this.#died(reason, ofItself),
      uncheckable: (reason) => this.#parts.events.uncheckable({ ...this.#who(), reason }),
    });
    this.#operations = new Operations(options.parts, this.#vitals);
    this.#leaning = new Leaning(options.parts);
    this.#storing = new Storing(options.parts, this.#vitals);
    this.#shelving = new Shelving(options.parts, () => this.#hostId, options.shelf);
    this.snapshots = new Snapshots(options.parts, this.#shelving, {
      line: this.#line,
      state: () => this.#state,
      sleeper: () => this.#sleeper,
      who: () => this.#who(),
      happen: (what) => this.#happen(what),
      limits: () => this.#claim.snapshotLimits,
      count: () => this.#note(),
      raised: () => this.#raised,
      wake: (signal) => this.wake(signal),
      refusal: () => this.#refusal(),
    });
    this.departure = new Departure(options.parts, this.#shelving, {
      line: this.#line,
      state: () => this.#state,
      sleeper: () => this.#sleeper,
      who: () => this.#who(),
      happen: (what) => this.#happen(what),
      wake: () => this.wake(),
      note: () => this.#note(),
      portrayed: () => this.snapshots.settled(),
      refusal: () => this.#refusal(),
    });
    this.uses = new Uses(options.parts.clock, options.hint?.lastUsedAtMs);
    this.past = new Past(options.hint);
    this.book = new SleepBook(options.parts.prices, options.hint?.book);
    this.depth = new Depth(options.parts, {
      id: () => this.claim.instanceId,
      hostId: () => this.#hostId,
      state: () => this.#state,
      policy: () => this.#policy,
      imageBytes: () => this.imageBytes,
      past: this.past,
      uses: this.uses,
      book: this.book,
      leaning: this.#leaning,
      storing: this.#storing,
      happen: (what) => this.#happen(what),
    });
    this.#visits = new Visits(options.parts.clock, this.uses, {
      guest: () => this.guest,
      state: () => this.#state,
      arrived: () => this.#happen('request-arrived'),
      released: () => this.#watch?.sleep.released(),
      refusal: () => this.#refusal(),
    });
  }

  get state(): InstanceState {
    return reported(this.#state);
  }

  get claim(): Claim {
    return this.#claim;
  }

  get #policy(): SleepPolicy {
    return policyOf(this.#claim);
  }

  get body(): Body | undefined {
    return this.#body;
  }

  get reason(): string | undefined {
    return this.#reason;
  }

  get openStays(): number {
    return this.#visits.inside;
  }

  get guest(): Guest {
    if (!this.#guest) throw new Failure('unavailable', 'the sandbox does not run', { retryable: true });
    return this.#guest;
  }

  /** Resolves when nothing of it is left on the host. */
  get gone(): Promise<void> {
    return this.#gone.promise;
  }

  report(): InstanceReport {
    const { instanceId, generation, workspace, name } = this.claim;
    const shared = { instanceId, generation, workspace, name, ...(this.#body ? { hostId: this.#body.hostId } : {}) };
    const isOnItsWay = this.state === 'waking' || this.state === 'restoring';
    return {
      ...shared,
      state: this.state,
      isolation: this.#parts.driver.isolation,
      lastUsedAtMs: this.#watch?.sleep.sitsOut ? this.#parts.clock.nowMs() : this.uses.lastUsedAtMs,
      // Nothing wakes it but a request, in whose words a person's resume counts as one.
      because: isOnItsWay ? 'request' : (this.#watch?.sleep.because() ?? this.#because),
      ...this.#policy,
      ...(this.#reason === undefined ? {} : { reason: this.#reason }),
      ...this.#rest(),
      ...this.past.report(),
    };
  }

  /** How deep it sleeps, and what its next wake may be expected to take. */
  #rest(): Pick<InstanceReport, 'tier' | 'queuedWake' | 'wakeMs' | 'imageBytes' | 'imageAtMs'> {
    const asleep = isAsleep(this.state);
    const wakeMs = asleep ? this.past.wakes[this.#tier].predictedMs : undefined;
    const imageAtMs = this.#shelving.shelf.images.at(-1)?.atMs;
    return {
      ...(asleep ? { tier: this.#tier } : {}),
      ...(hasQueuedWake(this.#state) ? { queuedWake: true } : {}),
      ...(wakeMs === undefined ? {} : { wakeMs }),
      ...(imageAtMs === undefined ? {} : { imageBytes: this.imageBytes, imageAtMs }),
    };
  }

  /** Where its next wake comes from. */
  get #tier(): WakeTier {
    if (isInRam(this.#state)) return this.past.isLean ? 'lean' : 'paused';
    if (this.#shelving.shelf.images.length > 0) return 'stored';
    return this.state === 'storing' ? 'paused' : 'files'; // one that is on its way to its first image still has everything in RAM
  }

  /** What its images take on the disk. */
  get imageBytes(): number {
    return this.#shelving.shelf.images.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Makes it: `work` answers what carries it. Rejects with what went wrong, and then it is on its way to be destroyed. */
  async make(work: (use: UseBody) => Promise<Hosted>): Promise<void> {
    await this.#line.run(async () => {
      try {
        const { guest, spec } = await work((body) => (this.#body = body && { hostId: body.hostId, slot: body.slot }));
        this.#guest = guest;
        this.#spec = spec;
      } catch (error) {
        this.#reason = explain(error);
        this.#happen('create-failed');
        throw error;
      }
      this.uses.touch();
      this.#happen('create-done');
    });
  }

  /** Takes it over after a restart, as the kernel says it is. */
  async adopt(
    { guest, spec, process }: { guest: Guest; spec: Spec; process: Process },
    found: 'found-running' | 'found-frozen',
  ): Promise<void> {
    await this.#shelving.foundAlive(process);
    if (this.#state !== 'creating') return; // ended meanwhile
    this.#guest = guest;
    this.#spec = spec;
    if (found === 'found-frozen') this.#because = 'idle';
    const wasLean = found === 'found-frozen' && this.past.isLean;
    this.#happen(found);
    this.#meetHeld();
    if (wasLean) this.#happen('lean-due'); // a look that finds nothing more to do
    this.snapshots.clearUp();
  }

  /** Those who came before it was known how it is. */
  #meetHeld(): void {
    if (this.#visits.held > 0) this.#happen('request-arrived');
  }

  /**
   * Takes it over where the host runs nothing of it that can be let in to. `lost`: why it will not wake as it was. `isComing`: a wake of it was cut short,
   * and is gone on with.
   */
  async adoptStored(
    spec: Spec,
    { lost, ofItself, isComing }: { lost: string | undefined; ofItself: boolean; isComing: boolean },
  ): Promise<void> {
    if (lost !== undefined && ofItself) await this.#shelving.died(lost, ofItself);
    if (this.#state !== 'creating') return; // ended meanwhile
    this.#spec = spec;
    this.#because = 'idle';
    this.#reason = lost;
    this.#lost = lost;
    this.#happen(this.#shelving.shelf.leaving === undefined ? 'found-stored' : 'found-travelling');
    if (isComing) this.#happen('request-arrived');
    else this.#meetHeld();
    this.snapshots.clearUp();
  }

  /**
   * A request comes in: it is let in at once, or held until the instance is awake. Rejects when it cannot be woken, when the hold takes too long, or when
   * the signal aborts. Whoever enters must leave.
   */
  enter(kind: UseKind, signal?: AbortSignal): Stay | Promise<Stay> {
    const stay = this.approach(kind, signal);
    return stay.awake?.then(() => stay) ?? stay;
  }

  /** As `enter`, without waiting: the stay says when it is awake. */
  approach(kind: UseKind, signal?: AbortSignal): Stay {
    return this.#visits.approach(kind, signal);
  }

  /** It is being woken, so what is sent to it now is taken as soon as it runs. */
  get isWaking(): boolean {
    return this.#state === 'waking';
  }

  /** A person's resume: awake when it resolves. */
  async wake(signal?: AbortSignal): Promise<void> {
    const stay = await this.enter('request', signal);
    stay.leave();
  }

  /**
   * A person's word that it is to go on with its files alone: an image may want a build that is no more, or that nobody should run. Its next wake starts
   * it anew; its images are kept as what would not do.
   */
  async giveUpMemory(): Promise<void> {
    await this.#line.run(async () => {
      if (this.#state !== 'stored') {
        const message = `only a stored sandbox gives its memory up, this one is ${this.state}: store it first`;
        throw new Failure('conflict', message);
      }
      const reason = 'somebody asked for its files alone';
      for (const { image } of this.#shelving.shelf.images.toReversed())
        await this.#shelving.damaged(image, { reason, isWhole: true });
      this.#lost = reason;
    });
  }

  /** A person's pause, in use or not: asleep when it resolves, unless a request came in between. */
  async pause(): Promise<void> {
    if (this.#state === 'running') await this.#note();
    this.#happen('pause-asked');
    if (this.#state === 'pausing') this.#because = 'asked';
    await this.#line.settled;
  }

  /**
   * A person's page-out (`asked`), or the host's that wants the RAM: done when it resolves, unless a request came in between. Answers why it is not, where
   * that is known. One that sleeps deeper is as good.
   */
  async lean(because: string): Promise<string | undefined> {
    if (isInRam(this.#state) && !restsInRam(this.#state)) await this.pause();
    this.#happen('lean-due');
    if (this.#state !== 'leaning') return this.#reason;
    this.#because = because;
    await this.#line.settled;
    return this.#leanTrouble;
  }

  /**
   * A person's store (`asked`), or the host's that wants the RAM: it has been let go when this resolves, unless a request came in between. One that is
   * stored already is as good.
   */
  async store(because: string): Promise<void> {
    if (isInRam(this.#state) && !restsInRam(this.#state)) await this.pause();
    this.past.storeAsked = because === 'asked' && isAsleep(this.state);
    this.#happen('store-due');
    if (this.state !== 'storing' && this.state !== 'stored') return;
    this.#because = because;
    while (this.state === 'storing' && !this.#parts.closing.aborted) await this.#line.settled;
    this.#writeHint();
  }

  /** Does something with it while it runs, and nothing else is done to it meanwhile. It wakes for it. */
  async whileAwake(work: (guest: Guest) => Promise<void>): Promise<void> {
    const stay = await this.enter('request');
    try {
      await this.#line.run(async () => {
        if (this.#state !== 'running') throw this.#refusal(); // somebody had it sleep in between
        await work(this.guest);
      });
    } finally {
      stay.leave();
    }
  }

  /** On its way to another node when it resolves, with the bytes that are to be carried; or it is as it was, and this rejects. */
  async leave(to: Destination): Promise<number> {
    const bytes = await this.departure.begin(to);
    this.#writeHint();
    return bytes;
  }

  async stay(): Promise<void> {
    await this.departure.stay();
    this.#meetHeld();
  }

  /** The host is short of memory, or no longer: it falls asleep sooner while nobody uses it. */
  press(isPressed: boolean): void {
    if (isPressed === this.#isPressed) return;
    this.#isPressed = isPressed;
    this.#watch?.sleep.nudge();
  }

  /** Limits that are not told stay; a wake budget that is not told is no more. */
  setPolicy(policy: Policy): Promise<void> {
    if (!isSame(policy.wakeBudget, this.#policy.wakeBudget)) this.book.budgetChanged();
    this.#claim = withPolicy(this.#claim, policy);
    this.#watch?.sleep.nudge();
    this.depth.anew();
    return this.#parts.journal.policyChanged(this.#hostId, policy);
  }

  /** Ends it. Resolves when it can no longer run; what it leaves on the host goes afterwards, but for the snapshots in `keep`, by id. */
  end(reason: string, keep: readonly string[] = []): Promise<void> {
    this.#reason ??= reason;
    if (this.#state !== 'deleting') this.#keep = keep;
    this.#hasLeft ||= this.#state === 'leaving' || this.#state === 'travelling';
    this.#happen('delete-asked');
    return this.#dead.promise;
  }

  /**
   * The record has given it a greater generation, as a restore does: from now on whoever knows only an older one is told so. What runs inside is told at its
   * wake, or before its next sleep.
   */
  raise(generation: Generation): void {
    this.#claim = { ...this.#claim, generation };
    const { events, journal } = this.#parts;
    this.#raised = journal.raised(this.#hostId, generation);
    this.#raised.catch((error: unknown) => events.bug({ where: 'journal of a generation', reason: explain(error) }));
  }

  leaseLost(): void {
    this.#happen('lease-lost');
  }

  leaseRenewed(): void {
    this.#happen('lease-renewed');
  }

  /** Its journal says that it failed before the node-agent came back. */
  foundFailed(spec: Spec, reason: string): void {
    this.#spec = spec;
    this.#die(reason);
  }

  /** Looks whether it still lives. `round`: it is time to look at its process. `trouble`: its guest did not answer somebody, so the guest is asked as well. */
  check(why: 'round' | 'trouble' = 'round'): Promise<void> {
    return this.#vitals.check(why === 'trouble');
  }

  /** The check under way asks its guest too, which may take its time. */
  get asksGuest(): boolean {
    return this.#vitals.asksGuest;
  }

  get isSuspect(): boolean {
    return this.#vitals.isSuspect;
  }

  /** Resolves when what is under way has ended. */
  async settled(): Promise<void> {
    await Promise.all([this.#line.settled, this.snapshots.settled()]);
  }

  /** What it was made of, and every image of it wants again. */
  get spec(): Spec {
    return this.#sleeper.spec;
  }

  /** When it is gone: what was to outlive it. */
  get remnant(): Remnant | undefined {
    if (this.#kept.length === 0) return undefined;
    const shelf = remaining(this.shelf, this.#kept);
    return new Remnant(this.#parts, { body: this.#knownBody, claim: this.claim, spec: this.spec, shelf });
  }

  get shelf(): Shelf {
    return this.#shelving.shelf;
  }

  /** Lets go of everything without touching the host: the room closes, the instance goes on. */
  abandon(failure: Failure): void {
    this.#watch?.stop.abort(failure);
    this.#watch = undefined;
    this.depth.stop();
    this.#leaning.giveWay();
    this.#visits.turnAway(failure);
    this.#visits.endStreams(failure);
    this.#guest?.close();
  }

  #refusal(): Failure {
    if (this.#hasLeft) return misdirected(this.claim);
    return refusalOf(this.claim, this.#state, this.#reason);
  }

  #happen(happening: Happening): void {
    const before = this.#state;
    const was = this.state;
    const move = next(before, happening);
    if (happening === 'request-arrived' && isAsleep(was)) this.book.asked(this.#parts.clock.monotonicMs());
    this.#state = move.state;
    // Before its effects: a wake tells where it came from.
    if (move.state === 'lean') this.past.isLean = true;
    if (move.state === 'running' || move.state === 'paused') this.past.isLean = false;
    for (const effect of move.effects) this.#carryOut(effect);
    if (isAsleep(this.state) && !isAsleep(was)) this.book.fellAsleep(this.#now.nowMs);
    if (move.state === 'running' && before !== 'running') {
      this.book.woke(this.#now, this.#policy.wakeBudget);
      this.past.census = undefined;
      this.#watchSleep();
    }
    if (move.state !== 'running' && before === 'running') this.#stopWatch();
    if (isLeaning(before) && !isLeaning(move.state)) this.#leaning.giveWay();
    this.depth.follow(before, move.state);
    if (move.state === 'storing-then-wake') this.#storing.giveWay();
    if (this.state !== was) this.#changed(this, was);
  }

  #carryOut(effect: Effect): void {
    switch (effect) {
      case 'pause':
        return this.#start(() => this.#pause());
      case 'wake': {
        const sinceMs = this.#parts.clock.monotonicMs();
        return this.#start(() => this.#wake(sinceMs));
      }
      case 'lean':
        this.#leaning.begin();
        return this.#start(() => this.#lean());
      case 'store':
        this.#storing.begin();
        return this.#start(() => this.#store());
      case 'release':
        return this.#start(() => this.#release());
      case 'restore': {
        const sinceMs = this.#parts.clock.monotonicMs();
        return this.#start(() => this.#restore(sinceMs));
      }
      case 'snapshot':
        return this.#start(() => this.#snapshot());
      case 'rewind':
        return this.#start(() => this.#rewind());
      case 'leave':
        return this.#start(() => this.#leave());
      case 'destroy':
        return this.#start(() => this.#destroy());
      case 'let-in':
        return this.#visits.letIn();
      case 'turn-away':
        this.book.unasked();
        return this.#visits.turnAway(this.#refusal());
      case 'end-streams':
        return this.#visits.endStreams(this.#refusal());
    }
  }

  #start(work: () => Promise<void>): void {
    this.#line
      .run(work)
      .catch((error: unknown) => this.#parts.events.bug({ where: 'standby operation', reason: explain(error) }));
  }

  async #pause(): Promise<void> {
    const ended = await this.#operations.pause(this.#hostId, { insists: this.#state === 'fencing' });
    switch (ended.kind) {
      case 'gone':
        return;
      case 'failed':
        this.#parts.events.pauseFailed({ ...this.#who(), reason: ended.reason });
        this.#reason = `the last pause failed: ${ended.reason}`;
        return this.#happen('pause-failed');
      case 'done':
        this.#reason = undefined;
        this.#parts.events.paused({ ...this.#who(), tookMs: ended.tookMs, because: this.#because });
        this.#happen('pause-done');
        this.#writeHint();
    }
  }

  async #wake(sinceMs: number): Promise<void> {
    const tier = this.past.isLean ? 'lean' : 'paused';
    const { predictedMs } = this.past.wakes[tier];
    const ended = await this.#operations.wake(this.#hostId, sinceMs);
    switch (ended.kind) {
      case 'gone':
        return;
      case 'failed':
        this.#parts.events.wakeFailed({ ...this.#who(), reason: ended.reason });
        this.#reason = `the last wake failed: ${ended.reason}`;
        return this.#happen('wake-failed');
      case 'done':
        this.past.woke(tier, ended.tookMs);
        this.#reason = undefined;
        this.#because = 'request';
        this.#happen('wake-done');
        this.#parts.events.woke({ ...this.#who(), tier, tookMs: ended.tookMs, predictedMs });
    }
  }

  async #lean(): Promise<void> {
    this.#leanTrouble = undefined;
    const ended = await this.#leaning.lean(this.#hostId);
    switch (ended.kind) {
      case 'cut': // by something that has been begun, or by the end of the room
        return;
      case 'refused':
        this.#leanTrouble = ended.reason;
        return this.#happen('lean-failed');
      case 'done':
        this.#parts.events.leaned({ ...this.#who(), ...ended.facts });
        this.past.isLean = true;
        await this.#keepHint(); // before anybody is told: the next node-agent is to know it too
        return this.#happen('lean-done');
      case 'failed':
        if (await this.#vitals.isGone()) return;
        this.#leanTrouble = ended.reason;
        this.#parts.events.leanFailed({ ...this.#who(), reason: ended.reason });
        return this.#happen('lean-failed');
    }
  }

  async #store(): Promise<void> {
    const ended = await this.#storing.store(this.#sleeper);
    const { tookMs } = ended;
    switch (ended.kind) {
      case 'done':
        this.past.stores.add(tookMs);
        this.#reason = undefined;
        this.#parts.events.stored({ ...this.#who(), tookMs, ...ended.facts });
        this.snapshots.stored();
        return this.#happen('store-done');
      case 'cut':
        this.past.storeAsked = false;
        this.#parts.events.storeCut({ ...this.#who(), tookMs });
        // Whoever waited may have been turned away since.
        return this.#happen(this.#state === 'storing-then-wake' ? 'store-cut' : 'store-failed');
      case 'failed':
        this.past.storeAsked = false;
        this.#parts.events.storeFailed({ ...this.#who(), tookMs, reason: ended.reason });
        if (this.#state === 'storing') this.#reason = `the last store failed: ${ended.reason}`;
        return this.#happen('store-failed');
    }
  }

  async #snapshot(): Promise<void> {
    const ended = await this.#operations.pause(this.#hostId, { insists: false });
    if (ended.kind === 'gone') return this.snapshots.refuse(this.#refusal());
    if (ended.kind === 'failed') {
      this.snapshots.refuse(
        new Failure('unavailable', `it could not be put to sleep: ${ended.reason}`, { retryable: true }),
      );
      return this.#happen('pause-failed');
    }
    const isSaved = await this.snapshots.take();
    if (!isSaved && (await this.#vitals.isGone())) return;
    this.#happen('pause-done');
  }

  async #rewind(): Promise<void> {
    const ended = await this.#operations.pause(this.#hostId, { insists: false });
    if (ended.kind !== 'done') {
      const reason = ended.kind === 'failed' ? ended.reason : 'its process is gone';
      this.snapshots.refuse(new Failure('unavailable', `it could not be put to sleep: ${reason}`, { retryable: true }));
      return this.#happen('release-cut');
    }
    const rewound = await this.snapshots.goBack();
    if (rewound === 'release-done') {
      this.#guest?.close();
      this.#guest = undefined;
    }
    this.#happen(rewound);
  }

  async #leave(): Promise<void> {
    if (this.#shelving.shelf.rests === 'elsewhere') {
      await this.#visits.emptied(LAST_REQUESTS_MS);
      this.#visits.endStreams(
        new Failure('unavailable', 'the sandbox moves to another node', { retryable: true, retryAfterS: 1 }),
      );
      const ended = await this.#operations.pause(this.#hostId, { insists: false });
      if (ended.kind !== 'done') {
        const reason = ended.kind === 'failed' ? ended.reason : 'its process is gone';
        this.departure.refuse(
          new Failure('unavailable', `it could not be put to sleep: ${reason}`, { retryable: true }),
        );
        return this.#happen('leave-cut');
      }
    }
    const left = await this.departure.carryOut();
    if (left !== 'leave-cut') {
      this.#guest?.close();
      this.#guest = undefined;
    }
    this.#happen(left);
    if (left === 'leave-failed') this.#meetHeld();
  }

  async #release(): Promise<void> {
    const ended = await this.#storing.release(this.#sleeper, () => this.#state === 'releasing-then-wake');
    switch (ended.kind) {
      case 'carried over':
        return;
      case 'done':
        this.#guest?.close();
        this.#guest = undefined;
        this.#parts.events.released({ ...this.#who(), tookMs: ended.tookMs });
        this.#writeHint();
        return this.#happen('release-done');
      case 'cut':
        return this.#happen(this.#state === 'releasing-then-wake' ? 'release-cut' : 'release-failed');
      case 'failed':
        this.#parts.events.releaseFailed({ ...this.#who(), reason: ended.reason });
        return this.#happen('release-failed');
    }
  }

  async #restore(sinceMs: number): Promise<void> {
    const { events, clock } = this.#parts;
    const { predictedMs } = this.past.wakes[this.#tier];
    try {
      const cameBack = await this.#storing.restore(this.#knownBody, this.#sleeper);
      const tookMs = clock.monotonicMs() - sinceMs;
      const wokeAtMs = clock.nowMs();
      this.#guest?.close();
      this.#guest = cameBack.guest;
      this.snapshots.cameFrom(cameBack.image?.image);
      this.#because = 'request';
      const loss = lossOf(cameBack, { atMs: wokeAtMs, died: this.#lost });
      this.#lost = undefined;
      this.#reason = loss?.reason;
      const tier = cameBack.from === 'image' ? 'stored' : 'files';
      this.past.woke(tier, tookMs, loss);
      if (loss) events.fellBack({ ...this.#who(), to: loss.to, reason: loss.reason });
      this.#happen('restore-done');
      events.woke({ ...this.#who(), tier, tookMs, predictedMs });
      this.#writeHint();
      const cause = cameBack.isAsked ? ('restore' as const) : ('wake' as const);
      await this.#giveReceipt(cause, cameBack, { tier, wokeAtMs, tookMs, predictedMs, loss });
      await this.#tidy(cameBack.image?.image);
    } catch (error) {
      const reason = explain(error);
      events.wakeFailed({ ...this.#who(), reason });
      this.#reason = `the last wake failed: ${reason}`;
      this.#happen('restore-failed');
    }
  }

  /** Of a fork: what came back of the snapshot that it was made of. */
  async bornOf({ from: image, checks, checkedAtMs }: WokenFork, sinceMs: number): Promise<void> {
    const tookMs = checkedAtMs - sinceMs;
    const wokeAtMs = this.#parts.clock.nowMs();
    const tier = image.because === 'fall-back' ? 'files' : 'stored';
    const wake = { tier, wokeAtMs, tookMs, predictedMs: undefined, loss: undefined } as const;
    await this.#giveReceipt('fork', { image, checks, refused: [] }, wake);
  }

  #giveReceipt(...testimony: Testimony): Promise<void> {
    return giveReceipt(this.#parts, { hostId: this.#hostId, claim: this.claim }, ...testimony);
  }

  /** Images that a wake has made superfluous; those that could not be removed now are so after the next one. */
  async #tidy(proven: string | undefined): Promise<void> {
    try {
      await this.snapshots.retire();
      await this.#shelving.tidy(proven);
    } catch (error) {
      this.#parts.events.untidy({ ...this.#who(), reason: explain(error) });
    }
  }

  async #destroy(): Promise<void> {
    await this.snapshots.giveUp();
    const keep = this.#kept;
    const images = this.#shelving.names.filter((name) => !keep.includes(name));
    const what = { dead: () => this.#dead.resolve(), images, keep };
    const ended = await this.#operations.destroy(this.#body, this.#reason ?? 'deleted', what);
    switch (ended.kind) {
      case 'carried over':
        return;
      case 'failed':
        this.#parts.events.destroyFailed({ ...this.#who(), reason: ended.reason, attempt: ended.attempt });
        return this.#happen('destroy-failed');
      case 'done':
        this.#dead.resolve();
        this.#guest?.close();
        this.#happen('destroy-done');
        this.#gone.resolve();
    }
  }

  get #kept(): string[] {
    return this.shelf.snapshots.flatMap(({ image }) => (this.#keep.includes(image) ? [image] : []));
  }

  #died(reason: string, ofItself: boolean): void {
    if (this.#state === 'creating' || !isInRam(this.#state) || this.#storing.isUnderWay) return;
    this.#parts.events.died({ ...this.#who(), reason });
    const { images, snapshots, asides } = this.#shelving.shelf;
    // One that dies of being stored does so by our doing. Without an image it goes on from its files; snapshots stay to be gone back to.
    if (images.length > 0 || snapshots.length > 0 || asides.length > 0 || this.state === 'storing') {
      return this.#fallBack(reason, ofItself && isAtWork(this.state));
    }
    this.#die(reason);
    const written = this.#parts.journal.failed(this.#hostId, reason);
    written.catch((error: unknown) => this.#parts.events.bug({ where: 'journal of a death', reason: explain(error) }));
  }

  /** Whoever dies of itself goes on from its files as they were then: an older image would take them back with it, and is kept as a snapshot. */
  #fallBack(reason: string, ofItself: boolean): void {
    const { images, snapshots, asides } = this.#shelving.shelf;
    const isKept = snapshots.length > 0 || asides.length > 0 || (ofItself && images.length > 0);
    const toFiles = isKept ? 'goes back to its files; its snapshots are kept' : 'has its files only';
    this.#reason = `${reason}; its next wake ${images.length > 0 && !ofItself ? 'goes back to its last image' : toFiles}`;
    this.#lost = reason;
    this.#start(() => this.#shelving.died(reason, ofItself)); // before a wake that waits for it
    this.#happen('died-with-image');
  }

  #die(reason: string): void {
    this.#reason = reason;
    this.#because = 'failed';
    this.#happen('process-died');
  }

  #watchSleep(): void {
    const stop = new AbortController();
    const sleep = new SleepWatch({
      clock: this.#parts.clock,
      uses: this.uses,
      guest: this.guest,
      policy: () => (this.#isPressed ? hurried(this.#policy.idle) : this.#policy.idle),
      silent: (reason) => this.#parts.events.busyUnknown({ ...this.#who(), reason }),
      note: (signal) => this.#note(signal),
      sleep: () => {
        this.#because = 'idle';
        this.#happen('idle-passed');
      },
    });
    this.#watch = { stop, sleep };
    this.#operations
      .rested(stop.signal)
      .then(() => sleep.untilIdle(stop.signal))
      .catch((error: unknown) => {
        if (!stop.signal.aborted) this.#parts.events.bug({ where: 'sleep watch', reason: explain(error) });
      });
  }

  /** Counts what runs and listens, for the receipt of the wake. Nobody is kept from sleeping who cannot say. */
  async #note(signal?: AbortSignal): Promise<void> {
    try {
      this.past.census = await countedAs(this.claim.generation, this.guest, signal);
    } catch (error) {
      signal?.throwIfAborted();
      if (this.#state === 'running') this.past.census = undefined; // else somebody else was quicker
      this.#parts.events.uncounted({ ...this.#who(), reason: explain(error) });
    }
  }

  get #now() {
    const { clock } = this.#parts;
    return { nowMs: clock.nowMs(), monotonicMs: clock.monotonicMs() };
  }

  #stopWatch(): void {
    if (this.#watch?.sleep.sitsOut) this.uses.touch(); // Until now it was in use.
    this.#watch?.stop.abort(new Error('it runs no more'));
    this.#watch = undefined;
  }

  #writeHint(): void {
    void this.#keepHint();
  }

  /** Worth having, never worth failing for. */
  async #keepHint(): Promise<void> {
    const hint = { ...this.past.hint(this.uses.lastUsedAtMs), book: this.book.note() };
    await this.#parts.journal.hint(this.#hostId, hint).catch(() => {});
  }

  /** An operation on the host before there is anything on it is a bug. */
  get #knownBody(): Body {
    if (!this.#body) throw new Error('nothing carries this instance yet');
    return this.#body;
  }

  get #hostId(): InstanceId {
    return this.#knownBody.hostId;
  }

  get #sleeper(): Sleeper {
    if (!this.#spec) throw new Error('an instance that sleeps was made of something');
    return {
      hostId: this.#hostId,
      claim: this.claim,
      spec: this.#spec,
      shelving: this.#shelving,
      census: this.past.census,
    };
  }

  #who() {
    const { instanceId, generation, workspace, name } = this.claim;
    return { instanceId, generation, workspace, name, ...(this.#body ? { hostId: this.#body.hostId } : {}) };
  }
}

/** Long enough for somebody who reads an answer and asks again. */
function hurried(idle: SleepPolicy['idle']): SleepPolicy['idle'] {
  return idle.kind === 'never' ? idle : { kind: 'after', idleMs: Math.min(idle.idleMs, PRESSED_IDLE_MS) };
}

function policyOf({ idle, wakeBudget }: Claim): SleepPolicy {
  return { idle, ...(wakeBudget ? { wakeBudget } : {}) };
}

function isSame(a: SleepPolicy['wakeBudget'], b: SleepPolicy['wakeBudget']): boolean {
  return a?.kind === b?.kind && (a?.kind !== 'p99' || b?.kind !== 'p99' || a.ms === b.ms);
}

/** Memory of it is being paged out. */
function isLeaning(state: StandbyState): boolean {
  return state === 'leaning' || state === 'leaning-fenced';
}

/** What ran inside has run since anybody put it to sleep. */
function isAtWork(state: InstanceState): boolean {
  return state === 'running' || state === 'pausing' || state === 'waking';
}
