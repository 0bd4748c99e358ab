/** The audit log's chain: each row's hash covers the hash before it, so that a row changed, removed or put in between breaks all that follow. */
import { createHash } from 'node:crypto';
import type { AuditEntry, Old } from './store.ts';

export const CHAIN_START = '0'.repeat(64);

/** What is hashed and kept word for word: keys in a fixed order, absent ones left out. */
export function bodyOf(entry: AuditEntry): string {
  const { atMs, workspace, actor, action, target, outcome, traceId, details } = entry;
  return JSON.stringify({ atMs, workspace, actor, action, target, outcome, traceId, details });
}

export function linkHash(previousHash: string, sequence: number, body: string): string {
  return createHash('sha256').update(`${previousHash}\n${sequence}\n${body}`).digest('hex');
}

/** Checks rows in order of their sequence, continuing from the row before. Answers the first that does not follow. */
export function firstBroken(
  rows: readonly { readonly sequence: number; readonly body: string; readonly hash: string }[],
  before: { readonly sequence: number; readonly hash: string },
): number | undefined {
  let at = before;
  for (const row of rows) {
    if (row.sequence !== at.sequence + 1 || row.hash !== linkHash(at.hash, row.sequence, row.body)) return row.sequence;
    at = row;
  }
  return undefined;
}

/** How many rows at the chain's beginning are old. It ends at the first that is not: a chain can only be cut off from its beginning. */
export function countOld(rows: readonly { readonly body: string }[], { beforeMs, limit }: Old): number {
  const young = rows.findIndex((row) => (JSON.parse(row.body) as AuditEntry).atMs >= beforeMs); // bodyOf wrote it
  return Math.min(limit, young < 0 ? rows.length : young);
}
