/** Letters from one holder of a key pair to another (X25519): nobody else opens them, and they are known to be from whom they say. */
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
} from 'node:crypto';

/** `mine` is the private key here, `theirs` the other's public one (SPKI, base64). `about` says what it is of: as something else it is not opened. */
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
/** PKCS #8, as far as the seed. */
const X25519_HEAD = Buffer.from('302e020100300506032b656e04220420', 'hex');

/** Both sides' keys go into its key, and a fresh pair's that nobody keeps. */
export function sealLetter(plain: Uint8Array, { mine, theirs, about }: Between): Buffer {
  const fresh = generateKeyPairSync('x25519');
  const other = publicKeyOf(theirs);
  const key = keyFrom([secret(fresh.privateKey, other), secret(mine, other)], about);
  const cipher = createCipheriv(CIPHER, key, NONCE);
  const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
  return Buffer.concat([fresh.publicKey.export({ format: 'der', type: 'spki' }), cipher.getAuthTag(), sealed]);
}

/** Throws when it is for somebody else, from somebody else, or about something else. */
export function openLetter(bytes: Buffer, { mine, theirs, about }: Between): Buffer {
  try {
    const fresh = publicKeyOf(bytes.subarray(0, KEY_BYTES).toString('base64'));
    const key = keyFrom([secret(mine, fresh), secret(mine, publicKeyOf(theirs))], about);
    const decipher = createDecipheriv(CIPHER, key, NONCE);
    decipher.setAuthTag(bytes.subarray(KEY_BYTES, KEY_BYTES + TAG_BYTES));
    return Buffer.concat([decipher.update(bytes.subarray(KEY_BYTES + TAG_BYTES)), decipher.final()]);
  } catch (cause) {
    throw new Error(`what came was not sealed for here, by whom it should be, about ${about}`, { cause });
  }
}

/** A pair from 32 bytes that nobody else knows. */
export function letterKey(seed: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([X25519_HEAD, seed]), format: 'der', type: 'pkcs8' });
}

/** The public half of a pair. */
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
  return new Uint8Array(hkdfSync('sha256', Buffer.concat(secrets), '', `torpor letter ${about}`, 32));
}
