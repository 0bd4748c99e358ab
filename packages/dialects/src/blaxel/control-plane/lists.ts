/** Lists: what may be asked of one, and the envelope it comes in. Cursors are the store's; to us they are opaque. */
import type { SandboxPhase } from '@torpor/contracts';
import { accept, refuse, type Parsed } from './refusals.ts';
import type { BlaxelVersion } from './versions.ts';

export interface BlaxelListQuery {
  /** 1 to 200. */
  readonly limit: number;
  readonly cursor?: string;
  readonly sort: { readonly by: 'createdAt' | 'updatedAt' | 'lastUsedAt' | 'name'; readonly direction: 'asc' | 'desc' };
  readonly anchor: 'start' | 'end';
  readonly q?: string;
  readonly externalId?: string;
  readonly phases?: readonly SandboxPhase[];
  /** Present when phases alone do not tell the statuses asked for apart: what is shown must have one of these. */
  readonly statuses?: readonly string[];
  readonly showTerminated: boolean;
  /** The statuses asked for are none that a sandbox of ours can have: the answer is empty without asking anybody. */
  readonly matchesNothing: boolean;
}

const LIMIT_DEFAULT = 50;
const LIMIT_MAX = 200;
const Q_MAX = 200;
const SORTS = ['createdAt', 'updatedAt', 'lastUsedAt', 'name'] as const;

const STATUSES = [
  'DELETING',
  'TERMINATED',
  'TERMINATING',
  'FAILED',
  'DEACTIVATED',
  'DEACTIVATING',
  'UPLOADING',
  'BUILDING',
  'DEPLOYING',
  'DEPLOYED',
  'BUILT',
  'ARCHIVING',
  'ARCHIVED',
  'UNARCHIVING',
];
const PHASES: Readonly<Record<string, SandboxPhase>> = {
  DEPLOYING: 'creating',
  DEPLOYED: 'ready',
  FAILED: 'failed',
  TERMINATED: 'terminated',
  ARCHIVING: 'ready',
  ARCHIVED: 'ready',
  UNARCHIVING: 'ready',
};

/** Parses the query of `GET /sandboxes` and of the other paginated lists. */
export function parseBlaxelListQuery(query: URLSearchParams): Parsed<BlaxelListQuery> {
  const limit = parseLimit(query.get('limit'));
  if (!limit.ok) return limit;
  const sort = parseSort(query.get('sort'));
  if (!sort.ok) return sort;
  const statuses = parseStatuses(query.get('status'));
  if (!statuses.ok) return statuses;
  const q = query.get('q') || undefined;
  if (q !== undefined && q.length > Q_MAX) return refuse(400, `q has ${q.length} signs; expected at most ${Q_MAX}`);
  const anchor = query.get('anchor') || 'start';
  if (anchor !== 'start' && anchor !== 'end')
    return refuse(400, `anchor is ${show(anchor)}; expected "end" or nothing`);
  const shown = parseFlag('showTerminated', query.get('showTerminated'));
  if (!shown.ok) return shown;
  const cursor = query.get('cursor') || undefined;
  const externalId = query.get('externalId') || undefined;
  return accept({
    limit: limit.value,
    sort: sort.value,
    anchor,
    showTerminated: shown.value || statuses.value.phases?.includes('terminated') === true,
    matchesNothing: statuses.value.matchesNothing,
    ...(cursor === undefined ? {} : { cursor }),
    ...(q === undefined ? {} : { q }),
    ...(externalId === undefined ? {} : { externalId }),
    ...(statuses.value.phases === undefined ? {} : { phases: statuses.value.phases }),
    ...(statuses.value.phases?.includes('ready') ? { statuses: statuses.value.asked } : {}),
  });
}

/** The answer: the envelope `{data, meta}` from 2026-04-28 on, a bare array before. Older clients know no pages: give them all items. */
export function blaxelList(
  version: BlaxelVersion,
  page: { items: readonly unknown[]; nextCursor?: string | undefined; total: number },
): unknown {
  if (!isPaged(version)) return page.items;
  const meta = { hasMore: page.nextCursor !== undefined, nextCursor: page.nextCursor ?? '', total: page.total };
  return { data: page.items, meta };
}

/** Whether lists come in pages. */
export function isPaged(version: BlaxelVersion): boolean {
  return version >= '2026-04-28';
}

/** Reads `true`, `false`, `1`, `0` or nothing. */
export function parseFlag(name: string, text: string | null): Parsed<boolean> {
  if (text === null || text === '' || text === 'false' || text === '0') return accept(false);
  if (text === 'true' || text === '1') return accept(true);
  return refuse(400, `${name} is ${show(text)}; expected true or false`);
}

function parseLimit(text: string | null): Parsed<number> {
  if (text === null || text === '') return accept(LIMIT_DEFAULT);
  const limit = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (limit < 1) return refuse(400, `limit is ${show(text)}; expected a whole number from 1 to ${LIMIT_MAX}`);
  return accept(Math.min(limit, LIMIT_MAX));
}

function parseSort(text: string | null): Parsed<BlaxelListQuery['sort']> {
  if (text === null || text === '') return accept({ by: 'createdAt', direction: 'desc' });
  const [field, direction = 'desc', ...rest] = text.split(':');
  const by = SORTS.find((known) => known === field);
  if (by === undefined || rest.length > 0 || (direction !== 'asc' && direction !== 'desc')) {
    return refuse(400, `sort is ${show(text)}; expected one of ${SORTS.join(', ')}, then :asc or :desc`);
  }
  return accept({ by, direction });
}

function parseStatuses(
  text: string | null,
): Parsed<{ asked: readonly string[]; phases?: SandboxPhase[]; matchesNothing: boolean }> {
  const asked = (text ?? '')
    .split(',')
    .map((word) => word.trim().toUpperCase())
    .filter((word) => word !== '');
  if (asked.length === 0) return accept({ asked, matchesNothing: false });
  const unknown = asked.find((word) => !STATUSES.includes(word));
  if (unknown !== undefined) return refuse(400, `status ${show(unknown)} is unknown; expected ${STATUSES.join(', ')}`);
  const phases = [...new Set(asked.flatMap((word) => PHASES[word] ?? []))];
  return accept(phases.length === 0 ? { asked, matchesNothing: true } : { asked, phases, matchesNothing: false });
}

function show(text: string): string {
  return JSON.stringify(text.slice(0, 60));
}
