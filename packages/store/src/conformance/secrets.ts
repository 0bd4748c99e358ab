import { describe, expect, it } from 'vitest';
import { T, type Stage } from './stage.ts';

export function describeSecrets(stage: Stage): void {
  const { fresh } = stage;

  describe('secrets', () => {
    it('are kept, listed without their values, replaced and deleted, each tenant its own', async () => {
      const [ws, other] = [fresh(), fresh()];
      await ws.secrets.put({ name: 'db', value: 'pä$$', atMs: T, by: 'user:ada' });
      await ws.secrets.put({ name: 'db', value: 'newer', atMs: T + 1, by: 'user:bob' });
      expect(await ws.secrets.get('db')).toBe('newer');
      expect(await ws.secrets.list()).toEqual([{ name: 'db', updatedAtMs: T + 1, updatedBy: 'user:bob' }]);
      expect(await other.secrets.get('db')).toBeUndefined();
      expect(await other.secrets.delete('db')).toBe(false);
      expect([await ws.secrets.delete('db'), await ws.secrets.delete('db')]).toEqual([true, false]);
    });
  });
}
