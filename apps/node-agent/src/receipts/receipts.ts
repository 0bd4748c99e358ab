/** The receipts of this node's wakes (DESIGN §4.8): signed, and the last of each instance kept beside its journal, to be read as long as it lives. */
import { Receipt, SignedReceipt, type InstanceId, type NodeId } from '@torpor/contracts';
import { z } from 'zod';
import type { JournalStore } from '../journal/index.ts';
import type { Signer } from './signer.ts';

const KEPT = 32;

type Told = Omit<Receipt, 'version' | 'nodeId' | 'verdict'>;

export class Receipts {
  readonly #nodeId: NodeId;
  readonly #signer: Signer;
  readonly #store: JournalStore;

  constructor(options: { nodeId: NodeId; signer: Signer; store: JournalStore }) {
    this.#nodeId = options.nodeId;
    this.#signer = options.signer;
    this.#store = options.store;
  }

  get publicKey(): string {
    return this.#signer.publicKey;
  }

  /** Kept when it resolves. Wakes of one instance come one after another. */
  async write(hostId: InstanceId, told: Told): Promise<Receipt> {
    const receipt: Receipt = { version: 1, nodeId: this.#nodeId, ...told, verdict: verdictOf(told) };
    const all = [...(await this.of(hostId)), this.#signer.sign(receipt)].slice(-KEPT);
    await this.#store.putReceipts(hostId, JSON.stringify(all));
    return receipt;
  }

  /** The oldest first. */
  async of(hostId: InstanceId): Promise<SignedReceipt[]> {
    const text = await this.#store.getReceipts(hostId);
    return text === undefined ? [] : z.array(SignedReceipt).parse(JSON.parse(text));
  }
}

function verdictOf({ lost, checks }: Told): Receipt['verdict'] {
  if (lost !== undefined) return 'fell back';
  if (checks.some(({ outcome }) => outcome === 'failed')) return 'flawed';
  return checks.some(({ outcome }) => outcome === 'not checked') ? 'unchecked' : 'whole';
}
