/**
 * Secrets at rest: AES-256-GCM, bound to the place they belong to, so that a sealed value copied to another tenant's row or another name does not open.
 * A sealed value reads `tp1:<key id>:<base64 of nonce ‖ tag ‖ ciphertext>`; the key id allows old values to open while new ones are sealed with a new key.
 */
import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';
import { Failure, type Chance } from '@torpor/kernel';

export interface Sealing {
  seal(place: SealedPlace, plain: string): string;
  /** Rejects with `internal` when the key is not held, or the value is damaged or from another place. */
  open(place: SealedPlace, sealed: string): string;
}

/** What a sealed value is bound to. */
export interface SealedPlace {
  readonly workspace: string;
  /** `env`, `secret`, `preview-token`. */
  readonly kind: string;
  readonly name: string;
}

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** `key` and each of `olderKeys`: 32 bytes in base64. New values are sealed with `key`; all of them open. */
export function aesSealing(options: { key: string; olderKeys?: readonly string[]; chance: Chance }): Sealing {
  const current = readKey(options.key);
  const held = new Map([...(options.olderKeys ?? []).map(readKey), current].map((k) => [k.id, k]));
  return {
    seal(place, plain) {
      const nonce = options.chance.bytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', current.bytes, nonce).setAAD(bound(place));
      const body = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()]);
      return `tp1:${current.id}:${Buffer.concat([nonce, cipher.getAuthTag(), body]).toString('base64')}`;
    },
    open(place, sealed) {
      const [version, id, text] = sealed.split(':');
      const key = held.get(id ?? '');
      if (version !== 'tp1' || !key || !text)
        throw broken(place, `it is sealed with key ${id ?? '?'}, which is not held`);
      const bytes = Buffer.from(text, 'base64');
      try {
        const opener = createDecipheriv('aes-256-gcm', key.bytes, bytes.subarray(0, NONCE_BYTES), {
          authTagLength: TAG_BYTES,
        })
          .setAAD(bound(place))
          .setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
        return opener.update(bytes.subarray(NONCE_BYTES + TAG_BYTES), undefined, 'utf8') + opener.final('utf8');
      } catch (error) {
        throw broken(place, 'it is damaged or belongs elsewhere', error);
      }
    },
  };
}

function readKey(text: string): { id: string; bytes: Buffer } {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length !== 32)
    throw new Failure('bad_request', `a sealing key is 32 bytes in base64; this one has ${bytes.length} bytes`);
  return { id: createHash('sha256').update('torpor sealing key').update(bytes).digest('hex').slice(0, 8), bytes };
}

/** Lengths stand before the parts, so that no two places read alike. */
function bound({ workspace, kind, name }: SealedPlace): Buffer {
  return Buffer.from([workspace, kind, name].map((part) => `${Buffer.byteLength(part)}:${part}`).join(''));
}

function broken(place: SealedPlace, why: string, cause?: unknown): Failure {
  return new Failure(
    'internal',
    `the sealed ${place.kind} "${place.name}" of workspace "${place.workspace}" cannot be opened: ${why}`,
    { cause },
  );
}
