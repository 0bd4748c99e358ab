import type { Receipt, SignedReceipt } from '@torpor/contracts';
import { createPublicKey, sign, type KeyObject } from 'node:crypto';

/** Signs receipts as this node. */
export class Signer {
  readonly #key: KeyObject;
  /** The public half: the raw 32 bytes, base64. */
  readonly publicKey: string;

  /** An Ed25519 private key. */
  constructor(key: KeyObject) {
    this.#key = key;
    const { x } = createPublicKey(key).export({ format: 'jwk' });
    if (x === undefined) throw new Error('expected an Ed25519 key to sign receipts with');
    this.publicKey = Buffer.from(x, 'base64url').toString('base64');
  }

  sign(receipt: Receipt): SignedReceipt {
    const signed = JSON.stringify(receipt);
    const signature = sign(null, Buffer.from(signed), this.#key).toString('base64');
    return { signed, signature, key: this.publicKey };
  }
}
