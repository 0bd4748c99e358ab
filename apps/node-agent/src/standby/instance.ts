/**
 * One claimed instance, as the standby engine drives it: happenings go in, the table (packages/policy) says what follows, and the effects are carried
 * out, operations on the host (`operations.ts`) strictly one after another. Nothing else changes its state.
 */
import type { IdlePolicy, InstanceId, InstanceReport, InstanceState } from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import { next, reported, type Effect, type Happening, type StandbyState } from '@torpor/policy';
import type { Guest } from '@torpor/runtime';
import type { Claim } from '../journal/index.ts';
import type { UseBody } from '../life/birth.ts';
import type { Body, Parts } from '../parts.ts';
import { Line } from './line.ts';
import { Operations } from './operations.ts';
import { refusalOf } from './refusal.ts';
import { SleepWatch } from './sleep-watch.ts';
import type { Stay } from './stay.ts';
import { Uses, type UseKind } from './uses.ts';
import { Visits } from './visits.ts';
import { Vitals } from './vitals.ts';
import { WakeTimes } from './wake-times.ts';

/** What carries an instance and speaks to it. */
export interface Hosted extends Body {
  readonly guest: Guest;
}

export interface InstanceOptions {
  readonly parts: Parts;
  readonly claim: Claim;
  /** Absent: not chosen yet; `make` says it. */
  readonly body: Body | undefined;
  readonly lastUsedAtMs?: number | undefined;
  readonly wakeMs?: number | undefined;
  /** Told after each change of the reported state. */
  readonly changed: (instance: Instance, before: InstanceState) => void;
}

export class Instance {
  readonly claim: Claim;
  readonly uses: Uses;
  readonly wakeTimes: WakeTimes;
  readonly #parts: Parts;
  readonly #visits: Visits;
  readonly #line = new Line();
  readonly #vitals: Vitals;
  readonly #operations: Operations;
  readonly #changed: InstanceOptions['changed'];
  readonly #dead = Promise.withResolvers<void>();
  readonly #gone = Promise.withResolvers<void>();
  #body: Body | undefined;
  #guest: Guest | undefined;
  #state: StandbyState = 'creating';
  #idle: IdlePolicy;
  #because = 'request';
  #reason: string | undefined;
  #watch: { stop: AbortController; sleep: SleepWatch } | undefined;

  constructor(options: InstanceOptions) {
    this.#parts = options.parts;
    this.claim = options.claim;
    this.#idle = options.claim.idle;
    this.#body = options.body;
    this.#changed = options.changed;
    this.#vitals = new Vitals(options.parts, {
      hostId: () => this.#hostId,
      guest: () => this.guest,
      isRunning: () => this.#state === 'running',
      died: (reason) => this.#died(reason),
      uncheckable: (reason) => this.#parts.events.uncheckable({ ...this.#who(), reason }),
    });
    this.#operations = new Operations(options.parts, this.#vitals);
    this.uses = new Uses(options.parts.clock, options.lastUsedAtMs);
    this.wakeTimes = new WakeTimes(options.wakeMs);
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
    if (!this.#guest) throw new Failure('unavailable', 'the sandbox is not made yet', { retryable: true });
    return this.#guest;
  }

  /** Resolves when nothing of it is left on the host. */
  get gone(): Promise<void> {
    return this.#gone.promise;
  }

  report(): InstanceReport {
    const { instanceId, generation, workspace, name } = this.claim;
    const shared = { instanceId, generation, workspace, name, ...(this.#body ? { hostId: this.#body.hostId } : {}) };
    return {
      ...shared,
      state: this.state,
      isolation: this.#parts.driver.isolation,
      lastUsedAtMs: this.#watch?.sleep.sitsOut ? this.#parts.clock.nowMs() : this.uses.lastUsedAtMs,
      // Nothing wakes it but a request, in whose words a person's resume counts as one.
      because: this.state === 'waking' ? 'request' : (this.#watch?.sleep.because() ?? this.#because),
      idle: this.#idle,
      ...(this.#reason === undefined ? {} : { reason: this.#reason }),
    };
  }

  /** Makes it: `work` answers what carries it. Rejects with what went wrong, and then it is on its way to be destroyed. */
  async make(work: (use: UseBody) => Promise<Hosted>): Promise<void> {
    await this.#line.run(async () => {
      try {
        this.#guest = (await work((body) => (this.#body = body && { hostId: body.hostId, slot: body.slot }))).guest;
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
  adopt(guest: Guest, found: 'found-running' | 'found-frozen'): void {
    this.#guest = guest;
    if (found === 'found-frozen') this.#because = 'idle';
    this.#happen(found);
    if (this.#visits.held > 0) this.#happen('request-arrived'); // before it was known how it is
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

  /** A person's pause, in use or not: asleep when it resolves, unless a request came in between. */
  async pause(): Promise<void> {
    this.#happen('pause-asked');
    if (this.#state === 'pausing') this.#because = 'asked';
    await this.#line.settled;
  }

  setPolicy(idle: IdlePolicy): Promise<void> {
    this.#idle = idle;
    this.#watch?.sleep.nudge();
    return this.#parts.journal.policyChanged(this.#hostId, idle);
  }

  /** Ends it. Resolves when it can no longer run; what it leaves on the host goes afterwards. */
  end(reason: string): Promise<void> {
    this.#reason ??= reason;
    this.#happen('delete-asked');
    return this.#dead.promise;
  }

  leaseLost(): void {
    this.#happen('lease-lost');
  }

  leaseRenewed(): void {
    this.#happen('lease-renewed');
  }

  /** Its journal says that it failed before the node-agent came back. */
  foundFailed(reason: string): void {
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

  /** Resolves when the operation under way, if any, has ended. */
  get settled(): Promise<void> {
    return this.#line.settled;
  }

  /** Lets go of everything without touching the host: the room closes, the instance goes on. */
  abandon(failure: Failure): void {
    this.#watch?.stop.abort(failure);
    this.#watch = undefined;
    this.#visits.turnAway(failure);
    this.#visits.endStreams(failure);
    this.#guest?.close();
  }

  #refusal(): Failure {
    return refusalOf(this.claim, this.#state, this.#reason);
  }

  #happen(happening: Happening): void {
    const before = this.#state;
    const was = this.state;
    const move = next(before, happening);
    this.#state = move.state;
    for (const effect of move.effects) this.#carryOut(effect);
    if (move.state === 'running' && before !== 'running') this.#watchSleep();
    if (move.state !== 'running' && before === 'running') this.#stopWatch();
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
      case 'destroy':
        return this.#start(() => this.#destroy());
      case 'let-in':
        return this.#visits.letIn();
      case 'turn-away':
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
    const { predictedMs } = this.wakeTimes;
    const ended = await this.#operations.wake(this.#hostId, sinceMs);
    switch (ended.kind) {
      case 'gone':
        return;
      case 'failed':
        this.#parts.events.wakeFailed({ ...this.#who(), reason: ended.reason });
        this.#reason = `the last wake failed: ${ended.reason}`;
        return this.#happen('wake-failed');
      case 'done':
        this.wakeTimes.add(ended.tookMs);
        this.#reason = undefined;
        this.#because = 'request';
        this.#happen('wake-done');
        this.#parts.events.woke({ ...this.#who(), tookMs: ended.tookMs, predictedMs });
    }
  }

  async #destroy(): Promise<void> {
    const ended = await this.#operations.destroy(this.#body, this.#reason ?? 'deleted', () => this.#dead.resolve());
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

  #died(reason: string): void {
    if (
      this.#state === 'creating' ||
      this.#state === 'deleting' ||
      this.#state === 'deleted' ||
      this.#state === 'failed'
    )
      return;
    this.#parts.events.died({ ...this.#who(), reason });
    this.#die(reason);
    this.#parts.journal
      .failed(this.#hostId, reason)
      .catch((error: unknown) => this.#parts.events.bug({ where: 'journal of a death', reason: explain(error) }));
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
      policy: () => this.#idle,
      silent: (reason) => this.#parts.events.busyUnknown({ ...this.#who(), reason }),
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

  #stopWatch(): void {
    if (this.#watch?.sleep.sitsOut) this.uses.touch(); // Until now it was in use.
    this.#watch?.stop.abort(new Error('it runs no more'));
    this.#watch = undefined;
  }

  #writeHint(): void {
    const hint = { lastUsedAtMs: this.uses.lastUsedAtMs, wakeMs: this.wakeTimes.predictedMs };
    this.#parts.journal.hint(this.#hostId, hint).catch(() => {}); // worth having, never worth failing for
  }

  /** An operation on the host before there is anything on it is a bug. */
  get #hostId(): InstanceId {
    if (!this.#body) throw new Error('nothing carries this instance yet');
    return this.#body.hostId;
  }

  #who() {
    const { instanceId, generation, workspace, name } = this.claim;
    return { instanceId, generation, workspace, name, ...(this.#body ? { hostId: this.#body.hostId } : {}) };
  }
}
