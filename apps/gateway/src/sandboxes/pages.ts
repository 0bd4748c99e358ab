import type { SandboxPage, SandboxQuery, SandboxShelf } from '@torpor/store';

const PAGE_MAX = 200;
/** Whoever wants all of them is given at most this many pages: ten thousand sandboxes. */
const PAGES_MAX = 50;

/** Page after page of what the query finds, from its cursor on. */
export async function* pagesOf(shelf: SandboxShelf, query: Omit<SandboxQuery, 'limit'>): AsyncGenerator<SandboxPage> {
  let next: Partial<Pick<SandboxQuery, 'cursor'>> = {};
  for (let pages = 0; pages < PAGES_MAX; pages++) {
    const page = await shelf.list({ ...query, ...next, limit: PAGE_MAX });
    yield page;
    if (page.nextCursor === undefined) return;
    next = { cursor: page.nextCursor };
  }
}
