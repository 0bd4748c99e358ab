/** What goes with the parcels of one sandbox: who it is, what it was made of, and the keys of its images. Sealed for the node that it is for. */
import { IdlePolicy, InstanceId, SandboxName, Shape, WorkspaceName } from '@torpor/contracts';
import { Parcel } from '@torpor/runtime';
import {
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
} from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import { Hint } from '../journal/index.ts';
import { SnapshotNote } from '../journal/lines.ts';
import { CensusShape } from '../receipts/census.ts';

const Travelling = z.object({
  parcel: Parcel,
  /** Base64. */
  key: z.string(),
  atMs: z.number(),
  bytes: z.number(),
  memoryBytes: z.number(),
  census: CensusShape.optional(),
  /** That its guest believes in. */
  generation: z.number(),
});

export const Waybill = z.object({
  version: z.literal(1),
  instanceId: InstanceId,
  hostId: InstanceId,
  workspace: WorkspaceName,
  name: SandboxName,
  token: z.string(),
  bootToken: z.string(),
  workdir: z.string(),
  env: z.string(),
  idle: IdlePolicy,
  template: z.string(),
  shape: Shape,
  images: z.array(Travelling).min(1),
  snapshots: z.array(Travelling.extend({ note: SnapshotNote })),
  /** How many images were ever begun: no name is used twice. */
  count: z.number().int(),
  hint: Hint.optional(),
});
export type Waybill = z.infer<typeof Waybill>;

/** `mine` is this node's, `theirs` the other's public key (X25519, SPKI, base64). `about` says which journey it is: for another it is not opened. */
export interface Between {
  readonly mine: KeyObject;
  readonly theirs: string;
  readonly about: string;
}

const CIPHER = 'aes-256-gcm';
const NONCE = Buffer.alloc(12); // each key is used once: it comes of a fresh pair
const TAG_BYTES = 16;
/** An X25519 key as SPKI. */
const KEY_BYTES = 44;

/** Only the other node opens it, and only if it was sealed here: both nodes' keys go into its key, and a fresh pair's that nobody keeps. */
export function sealWaybill(waybill: Waybill, { mine, theirs, about }: Between): Buffer {
  const fresh = generateKeyPairSync('x25519');
  const other = publicKeyOf(theirs);
  const key = keyFrom([secret(fresh.privateKey, other), secret(mine, other)], about);
  const cipher = createCipheriv(CIPHER, key, NONCE);
  const sealed = Buffer.concat([cipher.update(JSON.stringify(waybill)), cipher.final()]);
  return Buffer.concat([fresh.publicKey.export({ format: 'der', type: 'spki' }), cipher.getAuthTag(), sealed]);
}

/** Throws when it was sealed for another node, by another, or for another journey. */
export function openWaybill(bytes: Buffer, { mine, theirs, about }: Between): Waybill {
  const fresh = publicKeyOf(bytes.subarray(0, KEY_BYTES).toString('base64'));
  const key = keyFrom([secret(mine, fresh), secret(mine, publicKeyOf(theirs))], about);
  const decipher = createDecipheriv(CIPHER, key, NONCE);
  decipher.setAuthTag(bytes.subarray(KEY_BYTES, KEY_BYTES + TAG_BYTES));
  try {
    const plain = Buffer.concat([decipher.update(bytes.subarray(KEY_BYTES + TAG_BYTES)), decipher.final()]);
    return Waybill.parse(JSON.parse(plain.toString()));
  } catch (cause) {
    throw new Error('the waybill was not sealed for this node and this journey, by the node that it came from', {
      cause,
    });
  }
}

export function publicText(key: KeyObject): string {
  return createPublicKey(key).export({ format: 'der', type: 'spki' }).toString('base64');
}

function publicKeyOf(text: string): KeyObject {
  return createPublicKey({ key: Buffer.from(text, 'base64'), format: 'der', type: 'spki' });
}

function secret(privateKey: KeyObject, publicKey: KeyObject): Buffer {
  return diffieHellman({ privateKey, publicKey });
}

function keyFrom(secrets: readonly Buffer[], about: string): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', Buffer.concat(secrets), '', `torpor waybill ${about}`, 32));
}
