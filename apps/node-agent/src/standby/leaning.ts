/** Paging out, as the table asks for it: in slices, so that it ends as soon as anything else is to be done with the instance. */
import type { InstanceId } from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import { mayPageOut } from '@torpor/policy';
import type { LeanFacts } from '@torpor/runtime';
import type { Parts } from '../parts.ts';

const SLICE_MS = 1_000;
/** Whatever a slow disk has not taken by then stays in RAM. */
const LEAN_MS = 300_000;
/** The first wait after a page-out that failed; each further one is twice as long. */
const RETRY_MS = 60_000;
const RETRY_MS_MAX = 3_600_000;

export type Leaned =
  | { readonly kind: 'done'; readonly facts: LeanFacts }
  | { readonly kind: 'cut' }
  /** This host pages nothing out, as it is set up: no news. */
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'failed'; readonly reason: string };

export class Leaning {
  readonly #parts: Parts;
  #giveWay = new AbortController();
  #troubles = 0;
  #reluctantUntilMs = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Must be called before the table's `lean` begins, so that what comes before it does is heard. */
  begin(): void {
    this.#giveWay = new AbortController();
  }

  /** Something else is to be done with it. */
  giveWay(): void {
    this.#giveWay.abort();
  }

  async lean(hostId: InstanceId): Promise<Leaned> {
    const { admission, swap } = this.#parts;
    try {
      const verdict = mayPageOut(swap, (await admission.look()).swap);
      if (verdict.kind === 'may not') {
        this.#reluctantUntilMs = this.#parts.clock.monotonicMs() + RETRY_MS;
        return { kind: 'refused', reason: verdict.reason };
      }
      const facts = await this.#lean(hostId);
      if (!facts) return { kind: 'cut' };
      this.#troubles = 0;
      return { kind: 'done', facts };
    } catch (error) {
      this.#troubles++;
      this.#reluctantUntilMs = this.#parts.clock.monotonicMs() + this.#retryMs;
      return { kind: 'failed', reason: explain(error) };
    }
  }

  /** `undefined`: it gave way. */
  async #lean(hostId: InstanceId): Promise<LeanFacts | undefined> {
    const { driver, clock, closing } = this.#parts;
    const giveWay = AbortSignal.any([this.#giveWay.signal, closing]);
    const sinceMs = clock.monotonicMs();
    while (!giveWay.aborted) {
      const facts = await driver.lean(hostId, { budgetMs: SLICE_MS, giveWay });
      const tookMs = clock.monotonicMs() - sinceMs;
      if (!facts.gaveWay) return { ...facts, tookMs };
      if (tookMs > LEAN_MS) {
        throw new Failure(
          'deadline',
          `the timer "page-out" of ${LEAN_MS} ms ran out; ${Math.round(facts.swapMib)} MiB are in swap`,
        );
      }
    }
    return undefined;
  }

  /** The last one came to nothing: another so soon would too. */
  get isReluctant(): boolean {
    return this.#parts.clock.monotonicMs() < this.#reluctantUntilMs;
  }

  /** How long to sleep in RAM before it is tried: `afterMs`, and longer when it came to nothing. */
  dueAfterMs(afterMs: number): number {
    return Math.max(afterMs, this.#reluctantUntilMs - this.#parts.clock.monotonicMs());
  }

  get #retryMs(): number {
    return Math.min(RETRY_MS * 2 ** (this.#troubles - 1), RETRY_MS_MAX);
  }
}
