/**
 * One claimed instance, as the standby engine drives it: happenings go in, the table (packages/policy) says what follows, and the effects are carried out
 * here, operations on the host strictly one after another. Nothing else changes its state.
 */
import type { IdlePolicy, InstanceId, InstanceReport, InstanceState } from '@torpor/contracts';
import { explain, Failure, withDeadline } from '@torpor/kernel';
import { next, reported, type Effect, type Happening, type StandbyState } from '@torpor/policy';
import type { Guest } from '@torpor/runtime';
import type { Claim } from '../journal/index.ts';
import { destroyOnHost, retryPause } from '../life/destroy.ts';
import type { Body, Parts } from '../parts.ts';
import { Held } from './held.ts';
import { SleepWatch } from './sleep-watch.ts';
import { Stay, type StayHost } from './stay.ts';
import { Uses, type UseKind } from './uses.ts';
import { WakeTimes } from './wake-times.ts';

const WAKE_HOLD_MS = 15_000;
const PAUSE_MS = 10_000;
const WAKE_MS = 10_000;
const WAKE_ATTEMPTS = 3;
const GUEST_MS = 5_000;
/** Looks are two seconds apart (`rounds.ts`). */
const GUEST_REFUSALS = 3;

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

export class Instance implements StayHost {
  readonly claim: Claim;
  readonly uses: Uses;
  readonly wakeTimes: WakeTimes;
  readonly #parts: Parts;
  readonly #held: Held;
  readonly #changed: InstanceOptions['changed'];
  readonly #stays = new Set<Stay>();
  readonly #dead = Promise.withResolvers<void>();
  readonly #gone = Promise.withResolvers<void>();
  #body: Body | undefined;
  #guest: Guest | undefined;
  #state: StandbyState = 'creating';
  #idle: IdlePolicy;
  #because = 'request';
  #reason: string | undefined;
  #line: Promise<void> = Promise.resolve();
  #inLine = 0;
  /** Pauses, and destructions, that failed in a row. */
  #troubles = 0;
  #refusals = 0;
  #watch: { stop: AbortController; sleep: SleepWatch } | undefined;
  #asking: Promise<void> | undefined;
  #asksGuest = false;

  constructor(options: InstanceOptions) {
    this.#parts = options.parts;
    this.claim = options.claim;
    this.#idle = options.claim.idle;
    this.#body = options.body;
    this.#changed = options.changed;
    this.#held = new Held(options.parts.clock);
    this.uses = new Uses(options.parts.clock, options.lastUsedAtMs);
    this.wakeTimes = new WakeTimes(options.wakeMs);
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
    return this.#stays.size;
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
      lastUsedAtMs: this.uses.lastUsedAtMs,
      because: this.#watch?.sleep.because() ?? this.#because,
      idle: this.#idle,
      ...(this.#reason === undefined ? {} : { reason: this.#reason }),
    };
  }

  /** Makes it: `work` answers what carries it. Rejects with what went wrong, and then it is on its way to be destroyed. */
  async make(work: (use: (body: Body) => void) => Promise<Hosted>): Promise<void> {
    await this.#operate(async () => {
      try {
        this.#guest = (await work(({ hostId, slot }) => (this.#body = { hostId, slot }))).guest;
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
  }

  /**
   * A request comes in: it is let in at once, or held until the instance is awake. Rejects when it cannot be woken, when the hold takes too long, or when
   * the signal aborts. Whoever enters must leave.
   */
  enter(kind: UseKind, signal?: AbortSignal): Stay | Promise<Stay> {
    const found = this.state;
    this.uses.begin(kind);
    this.#happen('request-arrived');
    if (this.#state === 'running') return this.#admit(kind, found, 0);
    if (this.#state === 'creating' || this.#state === 'waking' || this.#state === 'pausing-then-wake') {
      return this.#hold(kind, found, signal);
    }
    this.uses.end(kind);
    throw this.#refusal();
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
    await this.#line;
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

  /**
   * Looks whether it still lives. `round`: it is time to look at its process. `trouble`: its guest did not answer somebody, so the guest is asked as well.
   * Asking while asking is once.
   */
  check(why: 'round' | 'trouble' = 'round'): Promise<void> {
    this.#asking ??= this.#checkNow(why === 'trouble' || this.isSuspect).finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  /** The check under way asks its guest too, which may take its time. */
  get asksGuest(): boolean {
    return this.#asksGuest;
  }

  /** Its process lives, but its guest refused the last call. */
  get isSuspect(): boolean {
    return this.#refusals > 0;
  }

  change(from: UseKind, to: UseKind): void {
    this.uses.begin(to);
    this.uses.end(from);
    if (!this.uses.holds) this.#watch?.sleep.released();
  }

  moved(bytes: { fromClient: number; fromInstance: number }): void {
    this.uses.bytes(bytes);
    if (bytes.fromClient > 0 && this.#state !== 'running') {
      this.uses.touch();
      this.#happen('request-arrived');
    }
  }

  leave(stay: Stay, kind: UseKind): void {
    this.#stays.delete(stay);
    this.uses.end(kind);
    if (!this.uses.holds) this.#watch?.sleep.released();
  }

  /** Resolves when the operation under way, if any, has ended. */
  get settled(): Promise<void> {
    return this.#line;
  }

  /** Lets go of everything without touching the host: the room closes, the instance goes on. */
  abandon(failure: Failure): void {
    this.#watch?.stop.abort(failure);
    this.#watch = undefined;
    this.#held.turnAway(failure);
    this.#endStreams(failure);
    this.#guest?.close();
  }

  #admit(kind: UseKind, found: InstanceState, heldMs: number): Stay {
    const stay = new Stay(this, kind, found, heldMs);
    this.#stays.add(stay);
    return stay;
  }

  async #hold(kind: UseKind, found: InstanceState, signal: AbortSignal | undefined): Promise<Stay> {
    const since = this.#parts.clock.monotonicMs();
    try {
      await this.#held.wait({ name: `hold of a request while the sandbox is ${found}`, ms: WAKE_HOLD_MS }, signal);
      // Between its turn and now it may have been put to sleep or ended again.
      if (this.#state !== 'running') return await this.#again(kind, found, signal);
    } catch (error) {
      this.uses.end(kind);
      throw error;
    }
    return this.#admit(kind, found, this.#parts.clock.monotonicMs() - since);
  }

  /** Its turn came and went: the instance was put to sleep, or ended, before this request went on. It waits once more. */
  async #again(kind: UseKind, found: InstanceState, signal: AbortSignal | undefined): Promise<Stay> {
    this.#happen('request-arrived');
    if (this.state === 'waking' || this.state === 'pausing') {
      await this.#held.wait({ name: 'second hold of a request', ms: WAKE_HOLD_MS }, signal);
    }
    if (this.state !== 'running') throw this.#refusal();
    return this.#admit(kind, found, 0);
  }

  #refusal(): Failure {
    const { instanceId, name } = this.claim;
    switch (this.state) {
      case 'failed':
        return new Failure(
          'gone',
          `sandbox "${name}" has failed: ${this.#reason ?? 'no reason is known'}. Delete it and create another.`,
          {
            details: { instanceId, reason: this.#reason },
          },
        );
      case 'deleting':
      case 'deleted':
        return new Failure('gone', `sandbox "${name}" has ended`, { details: { instanceId, reason: this.#reason } });
      case 'creating':
      case 'running':
      case 'pausing':
      case 'paused':
      case 'waking':
        return new Failure('unavailable', `sandbox "${name}" cannot be woken now: ${this.#hindrance()}`, {
          retryable: true,
          retryAfterS: 2,
          details: { instanceId },
        });
    }
  }

  #hindrance(): string {
    const fenced = this.#state === 'fencing' || this.#state === 'fenced' || this.#state === 'fenced-asleep';
    return fenced ? "this node's lease has ended" : (this.#reason ?? 'it was put to sleep');
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
      case 'wake':
        return this.#start(this.#wakeFrom(this.#parts.clock.monotonicMs()));
      case 'destroy':
        return this.#start(() => this.#destroy());
      case 'let-in':
        return this.#held.letIn();
      case 'turn-away':
        return this.#held.turnAway(this.#refusal());
      case 'end-streams':
        return this.#endStreams(this.#refusal());
    }
  }

  /** Operations go one after another; the first in line begins at once, in the same turn of the loop. */
  #operate(work: () => Promise<void>): Promise<void> {
    this.#inLine++;
    const mine = this.#inLine === 1 ? work() : this.#line.then(work);
    const over = () => void this.#inLine--;
    this.#line = mine.then(over, over);
    return mine;
  }

  #start(work: () => Promise<void>): void {
    this.#operate(work).catch((error: unknown) =>
      this.#parts.events.bug({ where: 'standby operation', reason: explain(error) }),
    );
  }

  async #pause(): Promise<void> {
    const { driver, events, clock } = this.#parts;
    // Only a fence insists; an idle instance that would not sleep is woken, and waits in `#watchSleep`.
    if (this.#state === 'fencing' && this.#troubles > 0) await retryPause(this.#parts, this.#troubles);
    try {
      const { tookMs } = await withDeadline({ name: 'pause', ms: PAUSE_MS, clock }, () => driver.pause(this.#hostId));
      this.#troubles = 0;
      this.#reason = undefined;
      events.paused({ ...this.#who(), tookMs, because: this.#because });
      this.#happen('pause-done');
      this.#writeHint();
    } catch (error) {
      await this.#failedTo('pause', error);
    }
  }

  #wakeFrom(sinceMs: number): () => Promise<void> {
    return async () => {
      const { driver, events, clock } = this.#parts;
      const predictedMs = this.wakeTimes.predictedMs;
      for (let attempt = 1; ; attempt++) {
        try {
          await withDeadline({ name: 'wake', ms: WAKE_MS, clock }, () => driver.resume(this.#hostId));
          break;
        } catch (error) {
          if (attempt === WAKE_ATTEMPTS || this.#parts.closing.aborted) return this.#failedTo('wake', error);
          if (await this.#lookGone()) return;
          await retryPause(this.#parts, attempt - 1);
        }
      }
      const tookMs = clock.monotonicMs() - sinceMs;
      this.wakeTimes.add(tookMs);
      this.#reason = undefined;
      this.#because = 'request';
      this.#happen('wake-done');
      events.woke({ ...this.#who(), tookMs, predictedMs });
    };
  }

  async #failedTo(what: 'pause' | 'wake', error: unknown): Promise<void> {
    if (await this.#lookGone()) return;
    const reason = explain(error);
    if (what === 'pause') this.#troubles++;
    this.#parts.events[what === 'pause' ? 'pauseFailed' : 'wakeFailed']({ ...this.#who(), reason });
    this.#reason = `the last ${what} failed: ${reason}`;
    this.#happen(what === 'pause' ? 'pause-failed' : 'wake-failed');
  }

  /** Looks at the host. True when its process is gone, which is then told. */
  async #lookGone(): Promise<boolean> {
    try {
      const gone = await this.#findGone();
      if (gone) this.#died(gone);
      return gone !== undefined;
    } catch {
      return false; // Whoever cannot be asked says nothing about the instance.
    }
  }

  async #checkNow(guestToo: boolean): Promise<void> {
    this.#asksGuest = guestToo;
    try {
      const gone = await this.#findGone();
      if (gone) return this.#died(gone);
      if (guestToo && this.#state === 'running') await this.#askGuest();
    } catch (error) {
      this.#parts.events.uncheckable({ ...this.#who(), reason: explain(error) });
    } finally {
      this.#asksGuest = false;
    }
  }

  /** A guest that is slow may be starved, and lives. One that refuses connection after connection has ended, and with it all that it started. */
  async #askGuest(): Promise<void> {
    try {
      await this.guest.json('GET', '/v1/health', undefined, { headMs: GUEST_MS });
      this.#refusals = 0;
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'unavailable' || this.#state !== 'running') return;
      this.#refusals++;
      if (this.#refusals >= GUEST_REFUSALS)
        this.#died(`its guest is gone: it refused ${this.#refusals} connections in a row`);
    }
  }

  async #findGone(): Promise<string | undefined> {
    const facts = await this.#parts.driver.inspect(this.#hostId);
    if (facts.state !== 'absent') return undefined;
    return facts.oomKills ? 'its process was killed for want of memory' : 'its process is gone';
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

  async #destroy(): Promise<void> {
    if (this.#troubles > 0) await retryPause(this.#parts, this.#troubles);
    if (this.#parts.closing.aborted) return; // The journal carries it over.
    try {
      if (this.#body)
        await destroyOnHost(this.#parts, this.#body, this.#reason ?? 'deleted', () => this.#dead.resolve());
      this.#dead.resolve();
      this.#guest?.close();
      this.#happen('destroy-done');
      this.#gone.resolve();
    } catch (error) {
      this.#parts.events.destroyFailed({ ...this.#who(), reason: explain(error), attempt: this.#troubles });
      this.#troubles++;
      this.#happen('destroy-failed');
    }
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
    this.#rested(stop.signal)
      .then(() => sleep.untilIdle(stop.signal))
      .catch((error: unknown) => {
        if (!stop.signal.aborted) this.#parts.events.bug({ where: 'sleep watch', reason: explain(error) });
      });
  }

  /** After pauses that failed: a while, longer each time. */
  async #rested(signal: AbortSignal): Promise<void> {
    if (this.#troubles > 0) await this.#parts.clock.after(Math.min(500 * 2 ** this.#troubles, 60_000), signal);
  }

  #stopWatch(): void {
    this.#watch?.stop.abort(new Error('it runs no more'));
    this.#watch = undefined;
  }

  #endStreams(failure: Failure): void {
    for (const stay of this.#stays) stay.onEnd?.(failure);
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
