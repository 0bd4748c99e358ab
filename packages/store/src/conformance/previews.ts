import type { Sandbox } from '@torpor/contracts';
import { describe, expect, it } from 'vitest';
import { tokenOpens } from '../keys.ts';
import type { Preview } from '../store.ts';
import { T, type Stage } from './stage.ts';

export function describePreviews(stage: Stage): void {
  const { word, fresh, sandboxIn, ready } = stage;

  const previewOf = (sandbox: Sandbox, more: Partial<Preview> = {}): Preview => ({
    id: word('preview'),
    sandbox: sandbox.name,
    name: 'web',
    port: 3000,
    public: false,
    extra: { prefixUrl: 'shop' },
    createdAtMs: T,
    updatedAtMs: T,
    createdBy: 'user:ada',
    ...more,
  });

  describe('previews', () => {
    it('are made once by name, replaced in place, and gone with their sandbox', async () => {
      const ws = fresh();
      const sandbox = await ready(sandboxIn(ws.name));
      const preview = previewOf(sandbox, { expiresAtMs: T + 9 });
      expect(await ws.previews.create(preview)).toEqual({ kind: 'created', preview });
      expect(await ws.previews.create(previewOf(sandbox))).toEqual({ kind: 'taken', preview });
      expect(await ws.previews.get(sandbox.name, 'web')).toEqual(preview);
      const { expiresAtMs: _gone, ...endless } = preview;
      const replaced = { ...endless, port: 8081, public: true, updatedAtMs: T + 1 };
      expect(await ws.previews.replace({ ...replaced, id: 'ignored' })).toEqual(replaced);
      expect(await ws.previews.list(sandbox.name)).toEqual([replaced]);
      await stage.store.wanted.terminate(ws.name, sandbox.name, { reason: 'asked', atMs: T });
      expect(await ws.previews.list(sandbox.name)).toEqual([]);
      expect(await stage.store.publicPreviews.find(preview.id)).toBeUndefined();
      expect(await ws.previews.create(previewOf(sandbox))).toEqual({ kind: 'no_sandbox' });
    });

    it('are found by a stranger by id, with tokens and the way; the tokens open and end', async () => {
      const ws = fresh();
      const sandbox = await ready(sandboxIn(ws.name));
      const preview = previewOf(sandbox);
      await ws.previews.create(preview);
      await ws.previews.createToken(sandbox.name, 'web', { name: 'a', value: 'value_a', createdAtMs: T });
      await ws.previews.createToken(sandbox.name, 'web', {
        name: 'b',
        value: 'value_b',
        createdAtMs: T + 1,
        expiresAtMs: T + 10,
      });
      expect((await ws.previews.tokens(sandbox.name, 'web')).map((token) => token.value)).toEqual([
        'value_a',
        'value_b',
      ]);
      const way = await stage.store.publicPreviews.find(preview.id);
      expect(way).toMatchObject({
        workspace: ws.name,
        preview,
        way: { route: { instanceId: sandbox.instanceId, nodeUrl: 'http://node-a:1' } },
      });
      expect(JSON.stringify(way)).not.toContain('value_');
      const opens = (value: string, nowMs: number) => tokenOpens(way?.tokens ?? [], value, nowMs);
      expect([opens('value_a', T), opens('value_b', T), opens('value_b', T + 10), opens('value_c', T)]).toEqual([
        true,
        true,
        false,
        false,
      ]);
    });

    it('lose a token by its name or its value', async () => {
      const ws = fresh();
      const sandbox = await ready(sandboxIn(ws.name));
      await ws.previews.create(previewOf(sandbox));
      for (const name of ['a', 'b'])
        await ws.previews.createToken(sandbox.name, 'web', { name, value: `v_${name}`, createdAtMs: T });
      expect(await ws.previews.deleteToken(sandbox.name, 'web', 'a')).toMatchObject({ name: 'a' });
      expect(await ws.previews.deleteToken(sandbox.name, 'web', 'v_b')).toMatchObject({ name: 'b' });
      expect(await ws.previews.deleteToken(sandbox.name, 'web', 'v_b')).toBeUndefined();
      expect(
        await ws.previews.createToken(sandbox.name, 'none', { name: 'a', value: 'v', createdAtMs: T }),
      ).toBeUndefined();
    });

    it('are other tenants’ neither to list nor to delete', async () => {
      const [ws, other] = [fresh(), fresh()];
      const sandbox = await ready(sandboxIn(ws.name));
      await ws.previews.create(previewOf(sandbox));
      expect(await other.previews.list(sandbox.name)).toEqual([]);
      expect(await other.previews.delete(sandbox.name, 'web')).toBeUndefined();
      expect(await other.previews.tokens(sandbox.name, 'web')).toEqual([]);
      expect(await ws.previews.delete(sandbox.name, 'web')).toMatchObject({ name: 'web' });
    });
  });
}
