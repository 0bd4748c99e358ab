import { describeInstance, type Sandbox } from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import { expiryOf, type ExpiryCause } from '@torpor/policy';
import type { Endings } from '../changes/endings.ts';
import { isSilence, Lanes, type Heard } from '../fleet/lanes.ts';
import type { Parts } from '../parts.ts';
import type { RouteHints } from '../routes.ts';

/** Ends sandboxes that have outlived their limits. Sleeps until the nearest end; a poke tells it of a nearer one. */
export class ExpiryWatch {
  readonly #parts: Parts;
  readonly #endings: Endings;
  readonly #hints: RouteHints;
  readonly #lanes: Lanes;
  #nap = new AbortController();
  #poked = false;

  constructor(parts: Parts, around: { endings: Endings; hints: RouteHints }) {
    this.#parts = parts;
    this.#endings = around.endings;
    this.#hints = around.hints;
    this.#lanes = new Lanes(parts.closing, (error) =>
      parts.events.trouble('expiry of an idle sandbox', explain(error)),
    );
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
      const nextMs = await this.#look().catch((error: unknown) => {
        if (!closing.aborted) events.trouble('expiry', explain(error));
        return clock.nowMs() + 1_000;
      });
      if (this.#poked) continue;
      const waitMs = Math.max(1, Math.min(times.expiryLookMs, nextMs - clock.nowMs()));
      await clock.after(waitMs, AbortSignal.any([closing, this.#nap.signal])).catch(() => {}); // woken early: the loop looks again
    }
  }

  /** Ends all that is due; answers when the next one is. Idle ones end behind it, when their nodes have said that they are. */
  async #look(): Promise<number> {
    const nowMs = this.#parts.clock.nowMs();
    let nextMs = Infinity;
    for (const sandbox of await this.#parts.store.wanted.expiring()) {
      const life = expiryOf(sandbox, nowMs);
      if (life.kind === 'alive') nextMs = Math.min(nextMs, life.endsAtMs ?? Infinity);
      else if (life.because === 'idle' && sandbox.phase === 'ready')
        this.#lanes.add(sandbox, () => this.#endIfIdle(sandbox));
      else await this.#end(sandbox, life.because);
    }
    return nextMs;
  }

  /**
   * The record may not know of the latest use yet, so the node is asked before an idle sandbox ends. While it does not answer nothing ends: better late
   * than wrong.
   */
  async #endIfIdle(known: Sandbox): Promise<Heard> {
    const { wire, store, clock, closing, events } = this.#parts;
    const { instanceId, generation, nodeId } = known;
    try {
      const { instance } = await wire.ask(describeInstance, { instanceId }, { node: nodeId, signal: closing });
      const isUsed = instance?.generation === generation && instance.lastUsedAtMs > known.lastUsedAtMs;
      if (isUsed) await store.wanted.noteUse([instance]);
      const life = expiryOf(isUsed ? { ...known, lastUsedAtMs: instance.lastUsedAtMs } : known, clock.nowMs());
      if (life.kind === 'expired') await this.#end(known, life.because);
      else this.poke(); // its new end may be the nearest
    } catch (error) {
      if (!closing.aborted) events.trouble('expiry of an idle sandbox', explain(error));
      return isSilence(error) ? 'silent' : 'answered';
    }
    return 'answered';
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
