import type { InstanceId } from '@torpor/contracts';
import { wholeLength } from './lines.ts';

/**
 * Where journals lie. `append` with `durable` resolves when the line, and the directory that holds it, would survive a power cut. One that rejects is as if
 * it had not been called: the next line begins where that one would have, unless the process ends first.
 */
export interface JournalStore {
  append(hostId: InstanceId, line: string, options: { durable: boolean; first: boolean }): Promise<void>;
  /** Every journal that was not removed whole. Cuts off lines that a crash tore, so that the next one begins on a line of its own. */
  readAll(): Promise<readonly { hostId: InstanceId; text: string; hint: string | undefined }[]>;
  /** One journal that is being written; `undefined`: there is none. */
  read(hostId: InstanceId): Promise<string | undefined>;
  /** Something worth having after a restart that may as well be lost: no fsync. */
  putHint(hostId: InstanceId, text: string): Promise<void>;
  /** Written whole or not at all, and durably. Nothing is put for an instance that has no journal. */
  putReceipts(hostId: InstanceId, text: string): Promise<void>;
  getReceipts(hostId: InstanceId): Promise<string | undefined>;
  remove(hostId: InstanceId): Promise<void>;
}

interface MemoryJournal {
  durable: string;
  loose: string;
  hint: string | undefined;
  receipts: string | undefined;
}

/** Journals in memory: for the simulator. `crash` loses about half of the lines that were not durable. */
export class MemoryJournalStore implements JournalStore {
  readonly #journals = new Map<InstanceId, MemoryJournal>();

  async append(hostId: InstanceId, line: string, { durable }: { durable: boolean }): Promise<void> {
    const journal = this.#journals.get(hostId) ?? { durable: '', loose: '', hint: undefined, receipts: undefined };
    this.#journals.set(hostId, journal);
    journal.loose += line;
    if (!durable) return;
    journal.durable += journal.loose;
    journal.loose = '';
  }

  async readAll() {
    return [...this.#journals].map(([hostId, { durable, loose, hint }]) => ({ hostId, text: durable + loose, hint }));
  }

  async read(hostId: InstanceId): Promise<string | undefined> {
    const journal = this.#journals.get(hostId);
    return journal && journal.durable + journal.loose;
  }

  async putHint(hostId: InstanceId, text: string): Promise<void> {
    const journal = this.#journals.get(hostId);
    if (journal) journal.hint = text;
  }

  async putReceipts(hostId: InstanceId, text: string): Promise<void> {
    const journal = this.#journals.get(hostId);
    if (journal) journal.receipts = text;
  }

  async getReceipts(hostId: InstanceId): Promise<string | undefined> {
    return this.#journals.get(hostId)?.receipts;
  }

  async remove(hostId: InstanceId): Promise<void> {
    this.#journals.delete(hostId);
  }

  crash(): void {
    for (const [hostId, journal] of this.#journals) {
      const torn = journal.loose.slice(0, journal.loose.length >> 1);
      journal.loose = torn.slice(0, wholeLength(torn));
      if (journal.durable + journal.loose === '') this.#journals.delete(hostId);
    }
  }
}
