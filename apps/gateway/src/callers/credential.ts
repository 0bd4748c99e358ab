import type { IncomingHttpHeaders } from 'node:http';
import { readKey } from '@torpor/store';

/** What a request shows to prove who sends it. */
export type Credential =
  | { readonly kind: 'token'; readonly token: string }
  | { readonly kind: 'none' }
  | { readonly kind: 'unreadable'; readonly why: string };

/** The dialect's own header counts first, so that `Authorization` stays free for the program behind a port. */
export function credentialOf(headers: IncomingHttpHeaders): Credential {
  const own = headers['x-blaxel-authorization'];
  if (own !== undefined) return bearer(Array.isArray(own) ? own[0] : own, 'X-Blaxel-Authorization');
  if (headers.authorization !== undefined) return bearer(headers.authorization, 'Authorization');
  return { kind: 'none' };
}

function bearer(value: string | undefined, header: string): Credential {
  const token = /^bearer +(\S+) *$/i.exec(value ?? '')?.[1];
  return token ? { kind: 'token', token } : { kind: 'unreadable', why: `${header} must read "Bearer <api key>"` };
}

/** Whether an `Authorization` value is a key of ours, which no program inside a sandbox may see. */
export function isOurKey(authorization: string): boolean {
  const read = bearer(authorization, 'Authorization');
  return read.kind === 'token' && readKey(read.token) !== undefined;
}
