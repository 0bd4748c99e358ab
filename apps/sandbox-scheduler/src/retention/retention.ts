import { explain } from '@torpor/kernel';
import type { Store } from '@torpor/store';
import type { Parts } from '../parts.ts';

type Prune = Store['usage']['prune'];

/** So many rows are deleted in one commit, and no more in one look: whoever books or audits meanwhile waits for a moment only. */
const ROWS = 2_000;
const COMMITS_MAX = 50;
const PAUSE_MS = 50;

/** Lets go of usage and audit rows that were kept long enough. What one look leaves over the next one finds. */
export class Retention {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Resolves when the room closes. */
  async run(): Promise<void> {
    const { clock, closing, times, store } = this.#parts;
    while (!closing.aborted) {
      await this.#letGo('usage', times.usageKeptMs, (old) => store.usage.prune(old));
      await this.#letGo('audit', times.auditKeptMs, (old) => store.audit.prune(old));
      await clock.after(times.retentionMs, closing).catch(() => {}); // the loop sees that the room closes
    }
  }

  async #letGo(what: 'usage' | 'audit', keptMs: number, prune: Prune): Promise<void> {
    if (keptMs === Infinity) return;
    const { clock, closing, events } = this.#parts;
    const beforeMs = clock.nowMs() - keptMs;
    let rows = 0;
    try {
      for (let commit = 0; commit < COMMITS_MAX; commit++) {
        const gone = await prune({ beforeMs, limit: ROWS });
        rows += gone;
        if (gone < ROWS) break;
        await clock.after(PAUSE_MS, closing);
      }
    } catch (error) {
      if (!closing.aborted) events.trouble(`retention of ${what}`, explain(error));
    }
    if (rows > 0) events.pruned(what, rows, beforeMs);
  }
}
