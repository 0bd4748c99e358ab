/** While an instance runs: waits for the instant at which it may sleep (DESIGN §4.1), and says so once. */
import type { IdlePolicy } from '@torpor/contracts';
import { idleVerdict, type IdleVerdict } from '@torpor/policy';
import { explain, type Clock } from '@torpor/kernel';
import type { Guest } from '@torpor/runtime';
import type { Uses } from './uses.ts';

/** How long the guest may think about whether it is busy, and how often it is asked before we take silence for no. */
const BUSY_MS = 2_000;
const BUSY_ASKS = 3;
/** One long poll for the end of keep-alive processes. */
const BUSY_POLL_MS = 60_000;

export interface Watched {
  readonly clock: Clock;
  readonly uses: Uses;
  readonly guest: Guest;
  policy(): IdlePolicy;
  /** The guest would not say whether it is busy. */
  silent(reason: string): void;
  /** It is about to sleep: what is worth noting of it is noted while it can still be asked. */
  note(signal: AbortSignal): Promise<void>;
  /** It may sleep. Called in the same turn as the verdict, so that no request can slip in between. */
  sleep(): void;
}

export class SleepWatch {
  readonly #watched: Watched;
  #nudge: (() => void) | undefined;
  /** What holds it awake ends with a release; else a timer runs, or only a nudge can change the verdict. */
  #awaitsRelease = false;
  #sitsOut = false;

  constructor(watched: Watched) {
    this.#watched = watched;
  }

  /** Keep-alive processes ran when the guest was last asked, and their end is waited for. */
  get sitsOut(): boolean {
    return this.#sitsOut;
  }

  /** Why it is awake now. */
  because(): string {
    const verdict = this.#verdict(undefined);
    if (verdict.kind !== 'sleep') return verdict.because;
    return this.#sitsOut ? 'keep-alive process' : 'request';
  }

  /** Something changed that may let it sleep earlier than was thought, such as its policy. */
  nudge(): void {
    this.#nudge?.();
  }

  /** The last hold was released. A timer that runs will see it by itself: use only ever moves the instant on. */
  released(): void {
    if (this.#awaitsRelease) this.#nudge?.();
  }

  /** Resolves when it has put the instance to sleep. Rejects when the signal aborts. */
  async untilIdle(signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const verdict = this.#verdict(undefined);
      if (verdict.kind === 'held') {
        this.#awaitsRelease = verdict.because !== 'policy never';
        await this.#rest(undefined, signal);
      } else if (verdict.kind === 'wait') await this.#rest(verdict.untilMs - this.#watched.clock.monotonicMs(), signal);
      else if ((await this.#isQuiet(signal)) && this.#verdict(0).kind === 'sleep') {
        return this.#watched.sleep();
      }
    }
  }

  /** Asks the guest about keep-alive processes. False when there were some, after sitting them out. */
  async #isQuiet(signal: AbortSignal): Promise<boolean> {
    const { guest, uses } = this.#watched;
    let keepAlive = await this.#keepAlive(signal);
    if (keepAlive === 0) {
      uses.forgetBytes();
      await this.#watched.note(signal);
      return true;
    }
    this.#sitsOut = true;
    while (keepAlive > 0) {
      try {
        keepAlive = (await guest.busy({ untilIdleMs: BUSY_POLL_MS, signal })).keepAlive;
      } catch (error) {
        signal.throwIfAborted();
        this.#watched.silent(explain(error));
        await this.#rest(500, signal);
        keepAlive = await this.#keepAlive(signal);
      }
    }
    this.#sitsOut = false;
    uses.touch(); // Until now it was in use.
    return false;
  }

  async #keepAlive(signal: AbortSignal): Promise<number> {
    for (let ask = 1; ; ask++) {
      try {
        const busy = await this.#watched.guest.json<{ keepAlive: number }>('GET', '/v1/busy', undefined, {
          headMs: BUSY_MS,
          signal,
        });
        return busy.keepAlive;
      } catch (error) {
        signal.throwIfAborted();
        this.#watched.silent(explain(error));
        // A guest too starved to answer must not keep its host busy for ever. Sleeping loses nothing.
        if (ask === BUSY_ASKS) return 0;
        await this.#watched.clock.after(200, signal);
      }
    }
  }

  #verdict(keepAlive: number | undefined): IdleVerdict {
    return idleVerdict({ ...this.#watched.uses.facts(), policy: this.#watched.policy(), keepAlive });
  }

  /** Until so many ms have passed, or a nudge. */
  async #rest(ms: number | undefined, signal: AbortSignal): Promise<void> {
    const own = new AbortController();
    const nudged = new Promise<void>((resolve) => {
      this.#nudge = resolve;
    });
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true, signal: own.signal });
    });
    try {
      // Never zero: a clock that rounds down would have us spin.
      const timer = ms === undefined ? [] : [this.#watched.clock.after(Math.max(1, ms), own.signal)];
      for (const wait of timer) wait.catch(() => {}); // told to stop by `own`
      await Promise.race([nudged, aborted, ...timer]);
    } finally {
      this.#nudge = undefined;
      this.#awaitsRelease = false;
      own.abort(new Error('no longer waited for'));
    }
  }
}
