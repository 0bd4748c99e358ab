/** Which headers travel on. Pure; raw lists in Node's form: name, value, name, value. */
import { DATA_KEY_HEADER } from '@torpor/contracts';
import { HOP_BY_HOP, namedByConnection } from '@torpor/kernel';
import type { IncomingHttpHeaders } from 'node:http';
import { isOurKey } from '../callers/credential.ts';

/** `Expect` is answered by our server itself. */
const NOT_PASSED_ON: ReadonlySet<string> = new Set([...HOP_BY_HOP, 'expect']);

/** Ours: they open doors, or a program inside could be made to believe something about its caller. */
const OURS = new Set([
  'x-blaxel-authorization',
  'x-blaxel-preview-token',
  'x-blaxel-subject-id',
  'x-blaxel-subject-type',
  'x-blaxel-auth-method',
  'x-request-id',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'traceparent',
]);

export const PREVIEW_COOKIE = 'bl_preview_token';

export interface Passage {
  readonly requestId: string;
  readonly traceparent: string;
  readonly dataKey: string;
  readonly callerAddress: string | undefined;
  readonly isTls: boolean;
  /** Added last, in place of the caller's of the same name. */
  readonly extra?: Readonly<Record<string, string>> | undefined;
}

/** The caller's headers as the node gets them. */
export function headersForNode(raw: readonly string[], passage: Passage): string[] {
  const named = namedByConnection(raw);
  const replaced = passage.extra && new Set(Object.keys(passage.extra).map((name) => name.toLowerCase()));
  const out: string[] = [];
  let host: string | undefined;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = (raw[i] ?? '').toLowerCase();
    const value = raw[i + 1] ?? '';
    if (NOT_PASSED_ON.has(name) || OURS.has(name) || name.startsWith('x-torpor-') || named?.has(name)) continue;
    if (name === 'content-length' || replaced?.has(name)) continue; // whoever sends the body frames it
    if (name === 'authorization' && isOurKey(value)) continue;
    if (name === 'host') host = value;
    if (name === 'cookie') {
      const rest = withoutOurCookie(value);
      if (rest !== '') out.push(name, rest);
      continue;
    }
    out.push(name, value);
  }
  out.push('x-request-id', passage.requestId, 'traceparent', passage.traceparent, DATA_KEY_HEADER, passage.dataKey);
  out.push('x-forwarded-proto', passage.isTls ? 'https' : 'http');
  if (host !== undefined) out.push('x-forwarded-host', host);
  else if (!replaced?.has('host')) out.push('host', 'sandbox');
  if (passage.callerAddress) out.push('x-forwarded-for', passage.callerAddress);
  for (const [name, value] of Object.entries(passage.extra ?? {})) {
    const lower = name.toLowerCase();
    if (!NOT_PASSED_ON.has(lower) && lower !== 'content-length' && !lower.startsWith('x-torpor-'))
      out.push(name, value);
  }
  return out;
}

/** The node's headers as the caller gets them. */
export function headersForCaller(
  from: IncomingHttpHeaders | Readonly<Record<string, string | string[] | undefined>>,
  extra?: Readonly<Record<string, string>>,
  cookie?: string,
): Record<string, string | string[]> {
  const out: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(from)) {
    if (value !== undefined && !NOT_PASSED_ON.has(name)) out[name] = value;
  }
  for (const [name, value] of Object.entries(extra ?? {})) {
    const lower = name.toLowerCase();
    // A length or coding other than the body's own would tear the answer apart.
    if (!NOT_PASSED_ON.has(lower) && lower !== 'content-length') out[lower] = value;
  }
  if (cookie !== undefined) out['set-cookie'] = [...[out['set-cookie'] ?? []].flat(), cookie];
  return out;
}

function withoutOurCookie(value: string): string {
  if (!value.includes(PREVIEW_COOKIE)) return value;
  return value
    .split(';')
    .map((pair) => pair.trim())
    .filter((pair) => !pair.startsWith(`${PREVIEW_COOKIE}=`))
    .join('; ');
}
