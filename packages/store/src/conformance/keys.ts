import { systemChance } from '@torpor/kernel';
import { describe, expect, it } from 'vitest';
import { checkKey, mintKey, readKey } from '../keys.ts';
import { T, type Stage } from './stage.ts';

export function describeKeys(stage: Stage): void {
  const { fresh } = stage;

  describe('keys', () => {
    it('are found by prefix, opened by their secret alone, and refused when revoked or expired', async () => {
      const ws = fresh();
      const minted = mintKey(systemChance);
      const made = await ws.keys.create({ ...personOf(minted), scopes: ['sandboxes:*'], expiresAtMs: T + 10 });
      expect(made).toMatchObject({ workspace: ws.name, scopes: ['sandboxes:*'] });
      expect(JSON.stringify(made)).not.toContain(readKey(minted.text)?.secret);
      const read = readKey(minted.text);
      const stored = await stage.store.keys.findByPrefix(read?.prefix ?? '');
      const secret = read?.secret ?? '';
      expect(checkKey(stored, secret, T)).toEqual({ kind: 'good', key: made });
      expect(checkKey(stored, `${secret}x`, T)).toEqual({ kind: 'bad', why: 'unknown' });
      expect(checkKey(stored, secret, T + 10)).toEqual({ kind: 'bad', why: 'expired' });
      expect(await ws.keys.revoke(made.id, T + 1)).toMatchObject({ revokedAtMs: T + 1 });
      expect(await ws.keys.revoke(made.id, T + 2)).toMatchObject({ revokedAtMs: T + 1 });
      expect(checkKey(await stage.store.keys.findByPrefix(made.prefix), secret, T)).toEqual({
        kind: 'bad',
        why: 'revoked',
      });
    });

    it('tell no scopes from none at all', async () => {
      const ws = fresh();
      const all = await ws.keys.create(personOf(mintKey(systemChance)));
      const none = await ws.keys.create({ ...personOf(mintKey(systemChance)), scopes: [] });
      expect([all.scopes, none.scopes]).toEqual([undefined, []]);
    });

    it('of a workspace and of a person do not mix', async () => {
      const [ws, other] = [fresh(), fresh()];
      const bound = await ws.keys.create(personOf(mintKey(systemChance)));
      const personal = await stage.store.keys.createPersonal(personOf(mintKey(systemChance)));
      expect((await ws.keys.list()).map((key) => key.id)).toEqual([bound.id]);
      expect((await stage.store.keys.listPersonal()).map((key) => key.id)).toContain(personal.id);
      expect(await other.keys.revoke(bound.id, T)).toBeUndefined();
      expect(await ws.keys.revoke(personal.id, T)).toBeUndefined();
      await stage.store.keys.noteUse([
        { id: bound.id, atMs: T + 5 },
        { id: personal.id, atMs: T + 6 },
      ]);
      await stage.store.keys.noteUse([{ id: bound.id, atMs: T + 1 }]);
      expect((await ws.keys.list())[0]?.lastUsedAtMs).toBe(T + 5);
    });
  });
}

function personOf(minted: ReturnType<typeof mintKey>) {
  const { text: _text, ...stored } = minted;
  return {
    ...stored,
    name: 'laptop',
    subject: 'user:ada',
    role: 'member' as const,
    createdAtMs: T,
    createdBy: 'user:ada',
  };
}
