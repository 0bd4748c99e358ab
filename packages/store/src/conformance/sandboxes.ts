import { Expiry, SandboxName } from '@torpor/contracts';
import { describe, expect, it } from 'vitest';
import { T, type Stage } from './stage.ts';

export function describeSandboxes(stage: Stage): void {
  const { fresh, sandboxIn, insert, ready } = stage;

  describe('sandboxes', () => {
    it('gives back what was put in, field by field, and the env as it was', async () => {
      const ws = fresh();
      const whole = sandboxIn(ws.name, {
        displayName: 'Ünïcode ✓',
        externalId: 'ext-1',
        labels: { team: "o'hara", '"': '\\' },
        expiry: Expiry.parse({ atMs: T + 5, maxAgeMs: 7, idleMs: 9 }),
        extra: { nested: { list: [1, 'two', null] } },
        envNames: ['A', 'LONG'],
        lastUsedAtMs: T + 0.25,
      });
      const env = { A: 'ü\n"$', LONG: 'x'.repeat(4_000) };
      await insert(whole, env);
      expect(await ws.sandboxes.get(whole.name, T)).toEqual(whole);
      expect(await ws.sandboxes.env(whole.instanceId)).toEqual(env);
      expect(await stage.store.wanted.envOf(whole)).toEqual(env);
    });

    it('lets one of many concurrent creates of a name in, and tells the others who it is', async () => {
      const ws = fresh();
      const name = SandboxName.parse('contended');
      const asks = Array.from({ length: 10 }, () => sandboxIn(ws.name, { name }));
      const answers = await Promise.all(asks.map((sandbox) => stage.store.wanted.insert(sandbox, {})));
      const winner = asks[answers.findIndex((answer) => answer.kind === 'inserted')];
      expect(answers.filter((answer) => answer.kind === 'inserted')).toHaveLength(1);
      const told = answers.flatMap((answer) => (answer.kind === 'taken' ? [answer.sandbox.instanceId] : []));
      expect(told).toEqual(Array.from({ length: 9 }, () => winner?.instanceId));
    });

    it('frees a name when its sandbox is terminated, and remembers the old one for its retention', async () => {
      const ws = fresh();
      const old = await ready(sandboxIn(ws.name, { terminatedRetentionMs: 1_000 }));
      await stage.store.wanted.terminate(ws.name, old.name, { reason: 'asked', atMs: T + 10 });
      expect(await ws.sandboxes.get(old.name, T + 11)).toMatchObject({
        phase: 'terminated',
        reason: 'asked',
        terminatedAtMs: T + 10,
      });
      expect(await ws.sandboxes.get(old.name, T + 1_010)).toBeUndefined();
      const young = await insert(sandboxIn(ws.name, { name: old.name }));
      expect((await ws.sandboxes.get(old.name, T + 11))?.instanceId).toBe(young.instanceId);
    });

    it('keeps tenants apart: neither reads, lists, finds nor revises what is the other’s', async () => {
      const [mine, other] = [fresh(), fresh()];
      const sandbox = await ready(sandboxIn(mine.name, { externalId: 'secret-project' }));
      expect(await other.sandboxes.get(sandbox.name, T)).toBeUndefined();
      expect(await other.sandboxes.routeOf(sandbox.name)).toBeUndefined();
      expect(await other.sandboxes.env(sandbox.instanceId)).toBeUndefined();
      expect(await other.sandboxes.byExternalId('secret-project')).toBeUndefined();
      expect((await other.sandboxes.list({ nowMs: T })).total).toBe(0);
      expect(await stage.store.wanted.revise(other.name, sandbox.name, { labels: { a: 'b' } }, T)).toBeUndefined();
      expect(await stage.store.wanted.terminate(other.name, sandbox.name, { reason: 'no', atMs: T })).toBeUndefined();
      await insert(sandboxIn(other.name, { name: sandbox.name }));
    });

    it('leads to the node only while the sandbox is ready', async () => {
      const ws = fresh();
      const sandbox = await insert(sandboxIn(ws.name));
      expect(await ws.sandboxes.routeOf(sandbox.name)).toBeUndefined();
      const made = await stage.store.wanted.becameReady(sandbox, T + 5);
      expect(made).toMatchObject({ phase: 'ready', updatedAtMs: T + 5 });
      const { instanceId, generation, nodeId } = sandbox;
      expect(await ws.sandboxes.routeOf(sandbox.name)).toEqual({
        sandbox: made,
        route: { instanceId, generation, nodeId, nodeUrl: 'http://node-a:1' },
      });
      await stage.store.wanted.terminate(ws.name, sandbox.name, { reason: 'asked', atMs: T });
      expect(await ws.sandboxes.routeOf(sandbox.name)).toBeUndefined();
    });

    it('finds the newest by external id that is not terminated', async () => {
      const ws = fresh();
      await ready(sandboxIn(ws.name, { externalId: 'job-7' }));
      const newer = await ready(sandboxIn(ws.name, { externalId: 'job-7' }));
      expect((await ws.sandboxes.byExternalId('job-7'))?.instanceId).toBe(newer.instanceId);
      await stage.store.wanted.terminate(ws.name, newer.name, { reason: 'asked', atMs: T });
      expect((await ws.sandboxes.byExternalId('job-7'))?.instanceId).not.toBe(newer.instanceId);
    });
  });
}
