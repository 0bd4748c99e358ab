import { createHash, timingSafeEqual } from 'node:crypto';
import type { WorkspaceName } from '@torpor/contracts';
import { randomWord, type Chance } from '@torpor/kernel';
import type { Role } from '@torpor/policy';

/** An API key as it may be shown: never its secret. */
export interface ApiKey {
  readonly id: string;
  /** The public part: finds the key, proves nothing. */
  readonly prefix: string;
  readonly name: string;
  /** Who acts with it: `user:ada`, `service:ci`. */
  readonly subject: string;
  readonly role: Role;
  /** Absent: all that the role may; empty: nothing. As `readScope` of policy reads them. */
  readonly scopes?: readonly string[];
  /** Undefined: personal, bound to no workspace. */
  readonly workspace?: WorkspaceName;
  readonly createdAtMs: number;
  readonly createdBy: string;
  readonly expiresAtMs?: number;
  readonly lastUsedAtMs?: number;
  readonly revokedAtMs?: number;
}

export interface StoredApiKey {
  readonly key: ApiKey;
  readonly secretHash: Uint8Array;
}

/** What is written when a key is made. The workspace comes from the shelf that it is put on. */
export interface NewApiKey extends Omit<ApiKey, 'workspace' | 'lastUsedAtMs' | 'revokedAtMs'> {
  readonly secretHash: Uint8Array;
}

const PREFIX_SIGNS = 12;
/** 260 bits: one round of sha256 hides it well. */
const SECRET_SIGNS = 52;
const FORM = new RegExp(`^tp_([a-z2-9]{${PREFIX_SIGNS}})_([a-z2-9]{${SECRET_SIGNS}})$`);

/** A new key: `text` is shown once; the rest goes into the store. */
export function mintKey(chance: Chance): { id: string; prefix: string; secretHash: Uint8Array; text: string } {
  const prefix = randomWord(chance, PREFIX_SIGNS);
  const secret = randomWord(chance, SECRET_SIGNS);
  const id = `key${randomWord(chance, 16)}`;
  return { id, prefix, secretHash: hashOfSecret(secret), text: `tp_${prefix}_${secret}` };
}

/** The two parts of a key's text; undefined when it is not one of ours. */
export function readKey(text: string): { prefix: string; secret: string } | undefined {
  const parts = FORM.exec(text);
  return parts?.[1] && parts[2] ? { prefix: parts[1], secret: parts[2] } : undefined;
}

export function hashOfSecret(secret: string): Uint8Array {
  return createHash('sha256').update(secret).digest();
}

export type KeyVerdict = { kind: 'good'; key: ApiKey } | { kind: 'bad'; why: 'unknown' | 'revoked' | 'expired' };

/** Whether this secret opens this key now. A wrong secret and an unknown prefix are told apart by nobody. */
export function checkKey(stored: StoredApiKey | undefined, secret: string, nowMs: number): KeyVerdict {
  if (!stored || !timingSafeEqual(stored.secretHash, hashOfSecret(secret))) return { kind: 'bad', why: 'unknown' };
  const why = endOfKey(stored.key, nowMs);
  return why ? { kind: 'bad', why } : { kind: 'good', key: stored.key };
}

/** Why this key opens nothing any more; undefined while it does. */
export function endOfKey(key: ApiKey, nowMs: number): 'revoked' | 'expired' | undefined {
  if (key.revokedAtMs !== undefined) return 'revoked';
  return key.expiresAtMs !== undefined && key.expiresAtMs <= nowMs ? 'expired' : undefined;
}

/** Whether a preview token's value is one of these and still good. */
export function tokenOpens(
  tokens: readonly { readonly hash: Uint8Array; readonly expiresAtMs?: number }[],
  value: string,
  nowMs: number,
): boolean {
  const hash = hashOfSecret(value);
  return tokens.some(
    (token) => timingSafeEqual(token.hash, hash) && (token.expiresAtMs === undefined || token.expiresAtMs > nowMs),
  );
}
