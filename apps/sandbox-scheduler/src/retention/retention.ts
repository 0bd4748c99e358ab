import { explain } from '@torpor/kernel';
import type { Store } from '@torpor/store';
import type { Parts } from '../parts.ts';

type Prune = Store['usage']['prune'];

/** So many rows are deleted in one commit, with a pause behind it: whoever books or audits meanwhile waits for a moment only. */
const ROWS = 2_000;
const PAUSE_MS = 50;
/** After so many commits the other table has its turn, and the next look is soon. */
const COMMITS_MAX = 50;
const SOON_MS = 10_000;

/** Lets go of usage and audit rows that were kept long enough. */
export class Retention {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Resolves when the room closes. */
  async run(): Promise<void> {
    const { clock, closing, times, store } = this.#parts;
    while (!closing.aborted) {
      const usage = await this.#letGo('usage', times.usageKeptMs, (old) => store.usage.prune(old));
      const audit = await this.#letGo('audit', times.auditKeptMs, (old) => store.audit.prune(old));
      const waitMs = usage === 'all' && audit === 'all' ? times.retentionMs : SOON_MS;
      await clock.after(waitMs, closing).catch(() => {}); // the loop sees that the room closes
    }
  }

  async #letGo(what: 'usage' | 'audit', keptMs: number, prune: Prune): Promise<'all' | 'some'> {
    if (keptMs === Infinity) return 'all';
    const { clock, closing, events } = this.#parts;
    const beforeMs = clock.nowMs() - keptMs;
    let rows = 0;
    let left = true;
    try {
      for (let commit = 0; left && commit < COMMITS_MAX; commit++) {
        const gone = await prune({ beforeMs, limit: ROWS });
        rows += gone;
        left = gone === ROWS;
        if (left) await clock.after(PAUSE_MS, closing);
      }
    } catch (error) {
      if (!closing.aborted) events.trouble(`retention of ${what}`, explain(error));
    }
    if (rows > 0) events.pruned(what, rows, beforeMs);
    return left ? 'some' : 'all';
  }
}
