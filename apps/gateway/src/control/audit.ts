/** The record of every outside action that changes something. It is written beside the answer, not before it; closing waits for what is under way. */
import { Failure, type Lifetime } from '@torpor/kernel';
import type { AuditEntry, Store } from '@torpor/store';

export interface Audit {
  /** Runs the action and records how it ended. */
  during<T>(about: Deed, action: () => Promise<T>): Promise<T>;
}

/** `target` is asked when the action is over: a thing may get its name on the way. */
type Deed = Omit<AuditEntry, 'outcome' | 'atMs' | 'target'> & { readonly target: () => string | undefined };

export function openAudit(parts: {
  store: Store;
  nowMs: () => number;
  lifetime: Lifetime;
  onTrouble: (doing: string, error: unknown) => void;
}): Audit {
  const { store, nowMs, lifetime, onTrouble } = parts;
  const writing = new Set<Promise<void>>();
  lifetime.own('the audit log', () => Promise.all(writing));

  function record(entry: AuditEntry): void {
    const write = store.audit
      .append(entry)
      .catch((error: unknown) => onTrouble('writing the audit log', error))
      .finally(() => writing.delete(write));
    writing.add(write);
  }

  return {
    async during(about, action) {
      const atMs = nowMs();
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
  };
}

/** An error may say itself how the deed ended: a dialect's refusal is no failure of ours. */
function outcomeOf(error: unknown): string | undefined {
  return error instanceof Error && 'outcome' in error && typeof error.outcome === 'string' ? error.outcome : undefined;
}
