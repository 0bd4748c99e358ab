import { SandboxName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { describe, expect, it } from 'vitest';
import { T, type Stage } from './stage.ts';

export function describeLists(stage: Stage): void {
  const { fresh, sandboxIn, ready } = stage;

  async function filled() {
    const ws = fresh();
    for (const [name, age] of [
      ['pear', 0],
      ['Fig', 1],
      ['apple', 2],
      ['plum', 3],
      ['quince', 3],
    ] as const) {
      const more = {
        name: SandboxName.parse(name.toLowerCase()),
        createdAtMs: T + age,
        displayName: name,
        labels: { kind: `${name}-tree` },
      };
      await ready(sandboxIn(ws.name, more));
    }
    return ws;
  }

  describe('lists', () => {
    it.each(['createdAt', 'name', 'updatedAt', 'lastUsedAt'] as const)(
      'walks every row once, page by page, by %s both ways',
      async (by) => {
        const ws = await filled();
        for (const direction of ['asc', 'desc'] as const) {
          const seen: string[] = [];
          let cursor: string | undefined;
          do {
            const page = await ws.sandboxes.list({
              nowMs: T,
              limit: 2,
              sort: { by, direction },
              ...(cursor ? { cursor } : {}),
            });
            expect(page.total).toBe(5);
            expect(page.items.length).toBeGreaterThan(0);
            seen.push(...page.items.map((item) => item.name));
            cursor = page.nextCursor;
          } while (cursor);
          expect([...seen].sort()).toEqual(['apple', 'fig', 'pear', 'plum', 'quince']);
          const sorted = direction === 'asc' ? [...seen].sort() : [...seen].sort().toReversed();
          expect(by === 'name' ? seen : sorted).toEqual(sorted);
        }
      },
    );

    it('begins with the newest, and with anchor=end shows the last page', async () => {
      const ws = await filled();
      expect((await ws.sandboxes.list({ nowMs: T, limit: 3 })).items.map((s) => s.name)).toEqual([
        'quince',
        'plum',
        'apple',
      ]);
      const end = await ws.sandboxes.list({ nowMs: T, limit: 2, anchor: 'end' });
      expect(end.items.map((s) => s.name)).toEqual(['fig', 'pear']);
      expect(end.nextCursor).toBeUndefined();
    });

    it('filters by part of a name or label, external id and phase, and hides the terminated unless asked', async () => {
      const ws = await filled();
      const names = async (query: object) =>
        (await ws.sandboxes.list({ nowMs: T, ...query })).items.map((s) => s.name).sort();
      expect(await names({ q: 'P' })).toEqual(['apple', 'pear', 'plum']);
      expect(await names({ q: 'FIG-tree' })).toEqual(['fig']);
      expect(await names({ q: '%' })).toEqual([]);
      expect(await names({ phases: ['creating', 'failed'] })).toEqual([]);
      await stage.store.wanted.terminate(ws.name, SandboxName.parse('fig'), { reason: 'asked', atMs: T });
      expect(await names({})).not.toContain('fig');
      expect(await names({ showTerminated: true })).toContain('fig');
      expect(await names({ showTerminated: true, phases: ['terminated'] })).toEqual(['fig']);
      expect(await names({ showTerminated: true, nowMs: T + 60_000 })).not.toContain('fig');
    });

    it('refuses cursors of another query, of another tenant, too old or made up, and absurd limits', async () => {
      const ws = await filled();
      const { nextCursor: cursor = '' } = await ws.sandboxes.list({ nowMs: T, limit: 1 });
      const refused = expect.objectContaining({ code: 'bad_request' });
      await expect(ws.sandboxes.list({ nowMs: T, limit: 1, cursor, q: 'p' })).rejects.toEqual(refused);
      await expect(fresh().sandboxes.list({ nowMs: T, limit: 1, cursor })).rejects.toEqual(refused);
      await expect(ws.sandboxes.list({ nowMs: T + 25 * 3_600_000, limit: 1, cursor })).rejects.toEqual(refused);
      await expect(ws.sandboxes.list({ nowMs: T, cursor: '"; drop table' })).rejects.toEqual(refused);
      for (const limit of [0, 201, 1.5, Number.NaN])
        await expect(ws.sandboxes.list({ nowMs: T, limit })).rejects.toBeInstanceOf(Failure);
    });
  });
}
