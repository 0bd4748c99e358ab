/** The receipts of this node's wakes (DESIGN §4.8): signed, and the last of each instance kept beside its journal, to be read as long as it lives. */
import { SignedReceipt, type Check, type InstanceId, type Loss, type NodeId, type Receipt } from '@torpor/contracts';
import { z } from 'zod';
import type { JournalStore } from '../journal/index.ts';
import type { Signer } from './signer.ts';

const KEPT = 32;

/** A wake, before this node has signed for it. */
type Told = Omit<Receipt, 'version' | 'nodeId' | 'verdict' | 'lost'> & { readonly loss: Loss | undefined };

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
  async write(hostId: InstanceId, { loss, ...told }: Told): Promise<Receipt> {
    const lost = loss ? { lost: loss.reason } : {};
    const receipt: Receipt = {
      version: 1,
      nodeId: this.#nodeId,
      ...told,
      verdict: verdictOf(told.checks, loss),
      ...lost,
    };
    const all = [...(await this.of(hostId)), this.#signer.sign(receipt)].slice(-KEPT);
    await this.#store.putReceipts(hostId, JSON.stringify(all));
    return receipt;
  }

  /** Those of an instance that has come from another node, which signed them. */
  async bring(hostId: InstanceId, brought: readonly SignedReceipt[]): Promise<void> {
    await this.#store.putReceipts(hostId, JSON.stringify(brought.slice(-KEPT)));
  }

  /** The oldest first. */
  async of(hostId: InstanceId): Promise<SignedReceipt[]> {
    const text = await this.#store.getReceipts(hostId);
    return text === undefined ? [] : z.array(SignedReceipt).parse(JSON.parse(text));
  }
}

function verdictOf(checks: readonly Check[], loss: Loss | undefined): Receipt['verdict'] {
  if (loss && loss.to !== 'flawed') return 'fell back';
  if (checks.some(({ outcome }) => outcome === 'failed')) return 'flawed';
  return checks.some(({ outcome }) => outcome === 'not checked') ? 'unchecked' : 'whole';
}
