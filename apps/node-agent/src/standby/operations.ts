/**
 * What the table has done to an instance on its host: pause, wake, destroy. Each is tried as often as it takes, and says how it ended; what follows from
 * that is the table's.
 */
import type { InstanceId } from '@torpor/contracts';
import { explain, withDeadline } from '@torpor/kernel';
import { destroyOnHost, retryPause } from '../life/destroy.ts';
import type { Body, Parts } from '../parts.ts';
import type { Vitals } from './vitals.ts';

const PAUSE_MS = 10_000;
const WAKE_MS = 10_000;
const WAKE_ATTEMPTS = 3;

export type Ended =
  | { readonly kind: 'done'; readonly tookMs: number }
  | { readonly kind: 'failed'; readonly reason: string }
  /** Its process is gone; that has been told. */
  | { readonly kind: 'gone' };

export class Operations {
  readonly #parts: Parts;
  readonly #vitals: Vitals;
  /** Pauses, or destructions, that failed in a row. */
  #troubles = 0;

  constructor(parts: Parts, vitals: Vitals) {
    this.#parts = parts;
    this.#vitals = vitals;
  }

  /** `insists`: as a fence does; an idle instance that would not sleep is woken, and `rested` first. */
  async pause(hostId: InstanceId, { insists }: { insists: boolean }): Promise<Ended> {
    const { driver, clock } = this.#parts;
    if (insists && this.#troubles > 0) await retryPause(this.#parts, this.#troubles);
    try {
      const { tookMs } = await withDeadline({ name: 'pause', ms: PAUSE_MS, clock }, () => driver.pause(hostId));
      this.#troubles = 0;
      return { kind: 'done', tookMs };
    } catch (error) {
      if (await this.#vitals.isGone()) return { kind: 'gone' };
      this.#troubles++;
      return { kind: 'failed', reason: explain(error) };
    }
  }

  /** Its time counts from `sinceMs`, when the wake was asked for. */
  async wake(hostId: InstanceId, sinceMs: number): Promise<Ended> {
    const { driver, clock, closing } = this.#parts;
    for (let attempt = 1; ; attempt++) {
      try {
        await withDeadline({ name: 'wake', ms: WAKE_MS, clock }, () => driver.resume(hostId));
        return { kind: 'done', tookMs: clock.monotonicMs() - sinceMs };
      } catch (error) {
        if (await this.#vitals.isGone()) return { kind: 'gone' };
        if (attempt === WAKE_ATTEMPTS || closing.aborted) return { kind: 'failed', reason: explain(error) };
        await retryPause(this.#parts, attempt - 1);
      }
    }
  }

  /** `dead` is called when it can no longer run. */
  async destroy(body: Body | undefined, reason: string, dead: () => void): Promise<Ended | { kind: 'carried over' }> {
    if (this.#troubles > 0) await retryPause(this.#parts, this.#troubles);
    if (this.#parts.closing.aborted) return { kind: 'carried over' }; // by the journal
    const sinceMs = this.#parts.clock.monotonicMs();
    try {
      if (body) await destroyOnHost(this.#parts, body, reason, dead);
      return { kind: 'done', tookMs: this.#parts.clock.monotonicMs() - sinceMs };
    } catch (error) {
      this.#troubles++;
      return { kind: 'failed', reason: explain(error) };
    }
  }

  /** How often it was tried in vain. */
  get troubles(): number {
    return this.#troubles;
  }

  /** After pauses that failed: resolves after a while, longer each time. */
  async rested(signal: AbortSignal): Promise<void> {
    if (this.#troubles > 0) await this.#parts.clock.after(Math.min(500 * 2 ** this.#troubles, 60_000), signal);
  }
}
