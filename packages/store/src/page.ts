/** How lists of sandboxes are cut into pages. A cursor says after which row to go on, for which query it was made, and when. */
import { createHash } from 'node:crypto';
import type { Sandbox } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { SandboxOrder, SandboxQuery } from './store.ts';

const CURSOR_LIFE_MS = 24 * 3_600_000;
const LIMIT_DEFAULT = 50;
const LIMIT_MAX = 200;

/** Where a row stands in an order: the value sorted by, then the row's own number, which no two share. */
export interface PageMark {
  readonly value: string | number;
  readonly sequence: number;
}

export interface PagePlan {
  readonly by: SandboxOrder;
  readonly direction: 'asc' | 'desc';
  readonly limit: number;
  readonly fromEnd: boolean;
  readonly after: PageMark | undefined;
}

export function planPage(workspace: string, query: SandboxQuery): PagePlan {
  const limit = query.limit ?? LIMIT_DEFAULT;
  if (!Number.isInteger(limit) || limit < 1 || limit > LIMIT_MAX) {
    throw new Failure('bad_request', `limit is ${limit}; expected a whole number from 1 to ${LIMIT_MAX}`);
  }
  const { by, direction } = query.sort ?? { by: 'createdAt', direction: 'desc' };
  const after =
    query.cursor === undefined ? undefined : readCursor(query.cursor, fingerprint(workspace, query), query.nowMs);
  return { by, direction, limit, fromEnd: query.anchor === 'end' && !after, after };
}

export function writeCursor(workspace: string, query: SandboxQuery, mark: PageMark): string {
  return Buffer.from(JSON.stringify([fingerprint(workspace, query), query.nowMs, mark.value, mark.sequence])).toString(
    'base64url',
  );
}

export function valueOf(sandbox: Sandbox, by: SandboxOrder): string | number {
  switch (by) {
    case 'createdAt':
      return sandbox.createdAtMs;
    case 'updatedAt':
      return sandbox.updatedAtMs;
    case 'lastUsedAt':
      return sandbox.lastUsedAtMs;
    case 'name':
      return sandbox.name;
  }
}

function readCursor(cursor: string, expected: string, nowMs: number): PageMark {
  const [print, issuedAtMs, value, sequence] = parts(cursor);
  const whole =
    typeof issuedAtMs === 'number' &&
    (typeof value === 'string' || typeof value === 'number') &&
    Number.isSafeInteger(sequence);
  if (!whole || typeof sequence !== 'number')
    throw new Failure('bad_request', 'this cursor is not one that a list has answered');
  if (print !== expected)
    throw new Failure('bad_request', 'this cursor belongs to another query; ask with the same filters and order');
  if (nowMs - issuedAtMs > CURSOR_LIFE_MS)
    throw new Failure('bad_request', 'this cursor is older than 24 hours; start from the first page');
  return { value, sequence };
}

function parts(cursor: string): unknown[] {
  try {
    const read: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString());
    return Array.isArray(read) ? read : [];
  } catch {
    return []; // what cannot be read is told like what reads wrong
  }
}

function fingerprint(workspace: string, query: SandboxQuery): string {
  const { by, direction } = query.sort ?? { by: 'createdAt', direction: 'desc' };
  const bound = [workspace, by, direction, query.q, query.externalId, query.phases, query.showTerminated ?? false];
  return createHash('sha256').update(JSON.stringify(bound)).digest('base64url').slice(0, 12);
}
