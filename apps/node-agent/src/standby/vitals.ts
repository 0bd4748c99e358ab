/**
 * Whether an instance still lives. Its process is looked at on the host, which answers soon; its guest is asked only when it gave somebody trouble, and
 * is not counted dead for being slow.
 */
import type { InstanceId } from '@torpor/contracts';
import { explain, Failure, withDeadline } from '@torpor/kernel';
import type { Guest } from '@torpor/runtime';
import type { Parts } from '../parts.ts';
import { endedOfItself, howItEnded } from './death.ts';

const LOOK_MS = 5_000;
const GUEST_MS = 5_000;
/** Looks are two seconds apart (`rounds.ts`). */
const GUEST_REFUSALS = 3;

/** Whose life it is. */
export interface Patient {
  hostId(): InstanceId;
  guest(): Guest;
  /** Only a guest that should run can be asked. */
  isRunning(): boolean;
  /** `ofItself`: what ran inside has brought it about. */
  died(reason: string, ofItself: boolean): void;
  uncheckable(reason: string): void;
}

export class Vitals {
  readonly #parts: Parts;
  readonly #patient: Patient;
  #refusals = 0;
  #looking: Promise<void> | undefined;
  #asksGuest = false;

  constructor(parts: Parts, patient: Patient) {
    this.#parts = parts;
    this.#patient = patient;
  }

  /** Looking while looking is once. */
  check(guestToo: boolean): Promise<void> {
    this.#looking ??= this.#look(guestToo || this.isSuspect).finally(() => (this.#looking = undefined));
    return this.#looking;
  }

  /** The look under way asks the guest too, which may take its time. */
  get asksGuest(): boolean {
    return this.#asksGuest;
  }

  /** Its process lives, but its guest refused the last call. */
  get isSuspect(): boolean {
    return this.#refusals > 0;
  }

  /** Looks at the host. True when its process is gone, which is then told. */
  async isGone(): Promise<boolean> {
    try {
      return await this.#findGone();
    } catch {
      return false; // Whoever cannot be asked says nothing about the instance.
    }
  }

  async #look(guestToo: boolean): Promise<void> {
    this.#asksGuest = guestToo;
    try {
      if (await this.#findGone()) return;
      if (guestToo && this.#patient.isRunning()) await this.#askGuest();
    } catch (error) {
      this.#patient.uncheckable(explain(error));
    } finally {
      this.#asksGuest = false;
    }
  }

  async #findGone(): Promise<boolean> {
    const { driver, clock } = this.#parts;
    const hostId = this.#patient.hostId();
    const facts = await withDeadline({ name: 'look at an instance', ms: LOOK_MS, clock }, () => driver.inspect(hostId));
    if (facts.state !== 'absent') return false;
    this.#patient.died(howItEnded(facts), endedOfItself(facts));
    return true;
  }

  /** A guest that is slow may be starved, and lives. One that refuses connection after connection has ended, and with it all that it started. */
  async #askGuest(): Promise<void> {
    try {
      await this.#patient.guest().json('GET', '/v1/health', undefined, { headMs: GUEST_MS });
      this.#refusals = 0;
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'unavailable' || !this.#patient.isRunning()) return;
      this.#refusals++;
      if (this.#refusals >= GUEST_REFUSALS)
        this.#patient.died(`its guest is gone: it refused ${this.#refusals} connections in a row`, true);
    }
  }
}
