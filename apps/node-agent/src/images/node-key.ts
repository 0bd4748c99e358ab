/**
 * The key of this node, which seals what lies on its disk and is a tenant's: the keys of images, and environments. One file, made at the first start;
 * who has it and the disk can read every sandbox of the node, who has only the disk can read none.
 */
import type { WorkspaceName } from '@torpor/contracts';
import { letterKey } from '@torpor/runtime';
import { createCipheriv, createDecipheriv, createPrivateKey, hkdfSync, randomBytes, type KeyObject } from 'node:crypto';
import { link, open, readFile, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

const CIPHER = 'aes-256-gcm';
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** PKCS #8, as far as the seed. */
const ED25519_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');

export class NodeKey {
  readonly #key: Buffer;

  constructor(key: Uint8Array) {
    if (key.length !== KEY_BYTES) throw new Error(`the key of a node has ${KEY_BYTES} bytes, found ${key.length}`);
    this.#key = Buffer.from(key);
  }

  /** A key for one image. */
  fresh(): Uint8Array {
    return randomBytes(KEY_BYTES);
  }

  /** `what` names the thing: what was sealed as one thing is not opened as another. */
  seal(workspace: WorkspaceName, what: string, plain: Uint8Array): string {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, this.#of(workspace), nonce).setAAD(Buffer.from(what));
    const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString('base64');
  }

  /** Throws when it was sealed by another key or as another thing. */
  open(workspace: WorkspaceName, what: string, text: string): Buffer {
    const bytes = Buffer.from(text, 'base64');
    const decipher = createDecipheriv(CIPHER, this.#of(workspace), bytes.subarray(0, NONCE_BYTES));
    decipher.setAAD(Buffer.from(what)).setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
    try {
      return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]);
    } catch (cause) {
      throw new Error(`${what} was not sealed by this node's key`, { cause });
    }
  }

  /** What the node signs with: Ed25519. It tells nothing of the key that it comes from. */
  signing(): KeyObject {
    return createPrivateKey({
      key: Buffer.concat([ED25519_HEAD, this.#seed('torpor receipts')]),
      format: 'der',
      type: 'pkcs8',
    });
  }

  /** What waybills for this node, and from it, are sealed by: X25519. */
  travelling(): KeyObject {
    return letterKey(this.#seed('torpor waybills'));
  }

  /** What a disk that was put aside travels under: asked again, the same. */
  ofDisk(image: string): Uint8Array {
    return this.#seed(`torpor disk ${image}`);
  }

  #seed(use: string): Buffer {
    return Buffer.from(hkdfSync('sha256', this.#key, '', use, KEY_BYTES));
  }

  /** One key for each workspace, so that it can be handed on alone. */
  #of(workspace: WorkspaceName): Uint8Array {
    return new Uint8Array(hkdfSync('sha256', this.#key, '', `torpor workspace ${workspace}`, KEY_BYTES));
  }
}

/** Reads the key, or makes it where there is none: durably, before anything can be sealed under it, and whole or not at all. Never over one that is there. */
export async function nodeKeyIn(path: string): Promise<NodeKey> {
  try {
    return new NodeKey(await readFile(path));
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
  const key = randomBytes(KEY_BYTES);
  const aside = `${path}.new`;
  await rm(aside, { force: true }); // of a start that was cut short
  const file = await open(aside, 'wx', 0o600);
  try {
    await file.writeFile(key);
    await file.sync();
  } finally {
    await file.close();
  }
  await link(aside, path);
  await rm(aside);
  const directory = await open(dirname(path), 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
  return new NodeKey(key);
}
