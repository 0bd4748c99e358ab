/**
 * What the table has done to an instance on its host: pause, wake, destroy. Each is tried as often as it takes, and says how it ended; what follows from
 * that is the table's.
 */
import type { InstanceId } from '@torpor/contracts';
import { explain, withDeadline } from '@torpor/kernel';
import { destroyOnHost, retryPause, type Leaving } from '../life/destroy.ts';
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

/** `attempt`: how often it was tried in vain before. `carried over`: the room closes, and the next one finds it in the journal. */
type Destroyed =
  | { readonly kind: 'done'; readonly tookMs: number }
  | { readonly kind: 'failed'; readonly reason: string; readonly attempt: number }
  | { readonly kind: 'carried over' };

export class Operations {
  readonly #parts: Parts;
  readonly #vitals: Vitals;
  /** In a row. */
  #failedPauses = 0;
  #failedDestructions = 0;

  constructor(parts: Parts, vitals: Vitals) {
    this.#parts = parts;
    this.#vitals = vitals;
  }

  /** `insists`: as a fence does; an idle instance that would not sleep is woken, and `rested` first. */
  async pause(hostId: InstanceId, { insists }: { insists: boolean }): Promise<Ended> {
    const { driver, clock } = this.#parts;
    if (insists && this.#failedPauses > 0) await retryPause(this.#parts, this.#failedPauses);
    try {
      const { tookMs } = await withDeadline({ name: 'pause', ms: PAUSE_MS, clock }, () => driver.pause(hostId));
      this.#failedPauses = 0;
      return { kind: 'done', tookMs };
    } catch (error) {
      if (await this.#vitals.isGone()) return { kind: 'gone' };
      this.#failedPauses++;
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
  async destroy(
    body: Body | undefined,
    reason: string,
    what: Leaving & { readonly dead: () => void },
  ): Promise<Destroyed> {
    if (!body) return { kind: 'done', tookMs: 0 };
    if (this.#failedDestructions > 0) await retryPause(this.#parts, this.#failedDestructions);
    if (this.#parts.closing.aborted) return { kind: 'carried over' };
    const sinceMs = this.#parts.clock.monotonicMs();
    try {
      await destroyOnHost(this.#parts, body, reason, what);
      return { kind: 'done', tookMs: this.#parts.clock.monotonicMs() - sinceMs };
    } catch (error) {
      this.#failedDestructions++;
      return { kind: 'failed', reason: explain(error), attempt: this.#failedDestructions - 1 };
    }
  }

  /** After pauses that failed: resolves after a while, longer each time. */
  async rested(signal: AbortSignal): Promise<void> {
    if (this.#failedPauses === 0) return;
    await this.#parts.clock.after(Math.min(500 * 2 ** this.#failedPauses, 60_000), signal);
  }
}
