/**
 * The record of outside actions: every change and how it ended, every refusal for want of a key, role or scope, and who used which sandbox or preview.
 * What may come many times a second is *noted*: the same entry once a minute, so that nobody fills the log. It is all written beside the answer, not
 * before it; closing waits for what is under way. While the database is away entries wait for it, so one may stand twice; closing then loses them.
 */
import { Failure, type Clock, type Lifetime } from '@torpor/kernel';
import type { AuditEntry, Store } from '@torpor/store';

export interface Audit {
  /** Runs the action and records how it ended. */
  during<T>(about: Deed, action: () => Promise<T>): Promise<T>;
  note(entry: Omit<AuditEntry, 'atMs'>): void;
}

/** `target` is asked when the action is over: a thing may get its name on the way. */
type Deed = Omit<AuditEntry, 'outcome' | 'atMs' | 'target'> & { readonly target: () => string | undefined };

const NOTED_ONCE_MS = 60_000;
const NOTED_MAX = 5_000;
const WAITING_MAX = 10_000;
const AGAIN_AFTER_MS = 5_000;

export function openAudit(parts: {
  store: Store;
  clock: Clock;
  lifetime: Lifetime;
  onTrouble: (doing: string, error: unknown) => void;
}): Audit {
  const { store, clock, lifetime, onTrouble } = parts;
  const writing = new Set<Promise<void>>();
  lifetime.own('the audit log', () => Promise.all(writing));
  const noted = { untilMs: 0, entries: new Set<string>() };

  function record(entry: AuditEntry): void {
    if (writing.size >= WAITING_MAX) return lose(new Error(`${WAITING_MAX} entries wait for the database already`));
    const write = append(entry)
      .catch(lose)
      .finally(() => writing.delete(write));
    writing.add(write);
  }

  async function append(entry: AuditEntry): Promise<void> {
    for (;;) {
      try {
        return await store.audit.append(entry);
      } catch (error) {
        if (!(error instanceof Failure && error.retryable) || lifetime.signal.aborted) throw error;
        await clock.after(AGAIN_AFTER_MS, lifetime.signal);
      }
    }
  }

  function lose(error: unknown): void {
    onTrouble('writing an entry of the audit log, which is lost', error);
  }

  return {
    async during(about, action) {
      const atMs = clock.nowMs();
      const ended = (outcome: string) => {
        const { target: which, ...rest } = about;
        const target = which();
        record({ ...rest, atMs, outcome, ...(target === undefined ? {} : { target }) });
      };
      try {
        const result = await action();
        ended('ok');
        return result;
      } catch (error) {
        ended(error instanceof Failure ? error.code : (outcomeOf(error) ?? 'internal'));
        throw error;
      }
    },
    note(entry) {
      const nowMs = clock.monotonicMs();
      if (nowMs >= noted.untilMs) {
        noted.untilMs = nowMs + NOTED_ONCE_MS;
        noted.entries.clear();
      }
      const text = JSON.stringify(entry);
      if (noted.entries.has(text) || noted.entries.size >= NOTED_MAX) return;
      noted.entries.add(text);
      if (noted.entries.size === NOTED_MAX) lose(new Error(`${NOTED_MAX} were noted this minute; no more are`));
      record({ ...entry, atMs: clock.nowMs() });
    },
  };
}

/** An error may say itself how the deed ended: a dialect's refusal is no failure of ours. */
function outcomeOf(error: unknown): string | undefined {
  return error instanceof Error && 'outcome' in error && typeof error.outcome === 'string' ? error.outcome : undefined;
}
