import { describeInstance, type Sandbox } from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import { expiryOf, type ExpiryCause } from '@torpor/policy';
import type { Endings } from '../changes/endings.ts';
import type { Parts } from '../parts.ts';
import type { RouteHints } from '../routes.ts';

/** Ends sandboxes that have outlived their limits. Sleeps until the nearest end; a poke tells it of a nearer one. */
export class ExpiryWatch {
  readonly #parts: Parts;
  readonly #endings: Endings;
  readonly #hints: RouteHints;
  #nap = new AbortController();
  #poked = false;

  constructor(parts: Parts, around: { endings: Endings; hints: RouteHints }) {
    this.#parts = parts;
    this.#endings = around.endings;
    this.#hints = around.hints;
  }

  /** Something may end sooner than was thought. */
  poke(): void {
    this.#poked = true;
    this.#nap.abort(new Error('there is news'));
  }

  /** Resolves when the room closes. */
  async run(): Promise<void> {
    const { clock, closing, times, events } = this.#parts;
    while (!closing.aborted) {
      this.#nap = new AbortController();
      this.#poked = false;
      const nextMs = await this.endExpired().catch((error: unknown) => {
        if (!closing.aborted) events.trouble('expiry', explain(error));
        return clock.nowMs() + 1_000;
      });
      if (this.#poked) continue;
      const waitMs = Math.max(1, Math.min(times.expiryLookMs, nextMs - clock.nowMs()));
      await clock.after(waitMs, AbortSignal.any([closing, this.#nap.signal])).catch(() => {}); // woken early: the loop looks again
    }
  }

  /** Ends all that is due; answers when the next one is. */
  async endExpired(): Promise<number> {
    const nowMs = this.#parts.clock.nowMs();
    let nextMs = Infinity;
    for (const known of await this.#parts.store.wanted.expiring()) {
      const life = expiryOf(known, nowMs);
      const sandbox = life.kind === 'expired' && life.because === 'idle' ? await this.#withLatestUse(known) : known;
      if (!sandbox) continue;
      const surely = expiryOf(sandbox, nowMs);
      if (surely.kind === 'expired') await this.#end(sandbox, surely.because);
      else nextMs = Math.min(nextMs, surely.endsAtMs ?? Infinity);
    }
    return nextMs;
  }

  /**
   * The record may not know of the latest use yet, so the node is asked before an idle sandbox ends. Undefined: it does not answer, and then nothing
   * ends: better late than wrong.
   */
  async #withLatestUse(sandbox: Sandbox): Promise<Sandbox | undefined> {
    if (sandbox.phase !== 'ready') return sandbox;
    const { wire, store, closing, events } = this.#parts;
    const { instanceId, nodeId } = sandbox;
    try {
      const { instance } = await wire.ask(describeInstance, { instanceId }, { node: nodeId, signal: closing });
      if (!instance || instance.lastUsedAtMs <= sandbox.lastUsedAtMs) return sandbox;
      await store.wanted.noteUse([instance]);
      return { ...sandbox, lastUsedAtMs: instance.lastUsedAtMs };
    } catch (error) {
      if (!closing.aborted) events.trouble('expiry of an idle sandbox', explain(error));
      return undefined;
    }
  }

  async #end(sandbox: Sandbox, because: ExpiryCause): Promise<void> {
    const { store, clock, events } = this.#parts;
    const reason = `expired: ${because}`;
    const gone = await store.wanted.terminate(sandbox.workspace, sandbox.name, {
      reason,
      atMs: clock.nowMs(),
      who: sandbox,
    });
    if (!gone) return; // it has moved on meanwhile
    events.ended(gone, 'expired');
    this.#hints.drop(gone);
    this.#endings.beginInBackground({ ...sandbox, reason });
  }
}
