import { describe, expect, it } from 'vitest';
import { T, type Stage } from './stage.ts';

export function describeAudit(stage: Stage): void {
  const { fresh } = stage;

  describe('the audit log', () => {
    it('chains every row, also of concurrent writers, and shows each tenant its own, newest first', async () => {
      const ws = fresh();
      const entry = { atMs: T, workspace: ws.name, actor: 'user:ada', action: 'sandbox.create', outcome: 'ok' };
      await stage.store.audit.append({ ...entry, target: 'first', details: { image: 'base' } });
      await Promise.all(Array.from({ length: 20 }, (_, n) => stage.store.audit.append({ ...entry, target: `t${n}` })));
      await stage.store.audit.append({ atMs: T, actor: 'system', action: 'start', outcome: 'ok' });
      const rows = await ws.audit.list({ limit: 100 });
      expect(rows).toHaveLength(21);
      expect(rows.at(-1)).toMatchObject({ target: 'first', details: { image: 'base' } });
      expect(await ws.audit.list({ limit: 100, beforeSequence: rows[19]?.sequence ?? 0 })).toHaveLength(1);
      expect((await stage.store.audit.verify()).brokenAt).toBeUndefined();
      expect((await stage.store.audit.verify()).rows).toBeGreaterThanOrEqual(22);
    });

    it('can be cut off from its beginning, so many rows at once, and what is left is still vouched for', async () => {
      const entry = { actor: 'user:ada', action: 'sandbox.create', outcome: 'ok' };
      await stage.store.audit.append({ ...entry, atMs: T });
      const { rows } = await stage.store.audit.verify();
      expect(await stage.store.audit.prune({ beforeMs: T, limit: 100 })).toBe(0);
      expect(await stage.store.audit.prune({ beforeMs: T + 1, limit: 1 })).toBe(1);
      expect(await stage.store.audit.verify()).toEqual({ rows: rows - 1 });
      await stage.store.audit.append({ ...entry, atMs: T });
      expect(await stage.store.audit.verify()).toEqual({ rows });
    });
  });
}
