import { DATA_KEY_HEADER } from '@torpor/contracts';
import { HOP_BY_HOP, namedByConnection } from '@torpor/kernel';
import { timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { Stay } from '../standby/stay.ts';

const OURS = 'x-torpor-';

/**
 * Raw header pairs as they came, in their order and case, less those that concern one hop only, those that `connection` names, and ours, `x-torpor-…`:
 * on the way in one is the key, and on the way out no program may speak as the node.
 * `keepUpgrade` leaves the two that ask for another protocol.
 */
export function passedOn(raw: readonly string[], options: { keepUpgrade?: boolean } = {}): string[] {
  const named = namedByConnection(raw);
  const passed: string[] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const [name = '', value = ''] = [raw[at], raw[at + 1]];
    const lower = name.toLowerCase();
    const isUpgrade = options.keepUpgrade === true && (lower === 'connection' || lower === 'upgrade');
    if (lower.startsWith(OURS) || (!isUpgrade && (HOP_BY_HOP.has(lower) || named?.has(lower)))) continue;
    passed.push(name, value);
  }
  return passed;
}

/** Whether the request carries the installation's data key; compared in constant time. */
export function carriesKey(headers: IncomingHttpHeaders, key: Buffer): boolean {
  const sent = headers[DATA_KEY_HEADER];
  if (typeof sent !== 'string') return false;
  const bytes = Buffer.from(sent);
  return bytes.length === key.length && timingSafeEqual(bytes, key);
}

/** What the wake was, for whoever looks: in the form of the Server-Timing specification. */
export function wakeHeaders(stay: Stay): { 'server-timing': string; 'x-torpor-state': string } {
  const ms = stay.heldMs === 0 ? '0' : stay.heldMs.toFixed(2);
  return { 'server-timing': `wake;desc="${stay.found}";dur=${ms}`, 'x-torpor-state': stay.found };
}
