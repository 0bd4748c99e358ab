/** What every store keeps true. `memoryStore` and `pgStore` both pass it, so that tests and the simulator may use the quick one. */
import {
  Expiry,
  Generation,
  InstanceId,
  NodeId,
  SandboxName,
  WorkspaceName,
  type Sandbox,
  type UsageInterval,
} from '@torpor/contracts';
import { Failure, systemChance } from '@torpor/kernel';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkKey, mintKey, readKey, tokenOpens } from './keys.ts';
import type { NodeRecord, Preview, Store } from './store.ts';

const T = 1_800_000_000_000;

export function describeStore(what: string, open: () => Promise<Store>): void {
  describe(`${what}`, () => {
    let store: Store;
    let turn = 0;
    const word = (prefix: string) => `${prefix}${(turn += 1)}`;
    const fresh = () => store.workspace(WorkspaceName.parse(word('ws-')));
    const sandboxIn = (workspace: WorkspaceName, more: Partial<Sandbox> = {}): Sandbox => ({
      instanceId: InstanceId.parse(word('instance')),
      workspace,
      name: SandboxName.parse(word('box-')),
      generation: Generation.parse(1),
      nodeId: NodeId.parse('node-a'),
      phase: 'creating',
      labels: {},
      template: 'base',
      image: 'blaxel/base-image:latest',
      shape: { memoryMib: 512, cpus: 1, diskMib: 1024, pids: 256 },
      ports: [{ target: 3000, protocol: 'HTTP' }],
      envNames: [],
      idle: { kind: 'after', idleMs: 15_000 },
      expiry: {},
      terminatedRetentionMs: 60_000,
      extra: { region: 'home' },
      createdAtMs: T,
      updatedAtMs: T,
      lastUsedAtMs: T,
      createdBy: 'user:ada',
      ...more,
    });
    const insert = async (sandbox: Sandbox, env: Record<string, string> = {}) => {
      expect(await store.wanted.insert(sandbox, env)).toEqual({ kind: 'inserted' });
      return sandbox;
    };
    const ready = async (sandbox: Sandbox) => {
      await insert(sandbox);
      await store.wanted.becameReady(sandbox, T);
      return sandbox;
    };
    const next = (sandbox: Sandbox) => ({
      instanceId: InstanceId.parse(word('instance')),
      generation: Generation.parse(sandbox.generation + 1),
    });

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

    beforeAll(async () => {
      store = await open();
      await store.fleet.heard(node('node-a'));
      await store.fleet.heard(node('node-b'));
    });
    afterAll(() => store.close());

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
        expect(await store.wanted.envOf(whole)).toEqual(env);
      });

      it('lets one of many concurrent creates of a name in, and tells the others who it is', async () => {
        const ws = fresh();
        const name = SandboxName.parse('contended');
        const asks = Array.from({ length: 10 }, () => sandboxIn(ws.name, { name }));
        const answers = await Promise.all(asks.map((sandbox) => store.wanted.insert(sandbox, {})));
        const winner = asks[answers.findIndex((answer) => answer.kind === 'inserted')];
        expect(answers.filter((answer) => answer.kind === 'inserted')).toHaveLength(1);
        const told = answers.flatMap((answer) => (answer.kind === 'taken' ? [answer.sandbox.instanceId] : []));
        expect(told).toEqual(Array.from({ length: 9 }, () => winner?.instanceId));
      });

      it('frees a name when its sandbox is terminated, and remembers the old one for its retention', async () => {
        const ws = fresh();
        const old = await ready(sandboxIn(ws.name, { terminatedRetentionMs: 1_000 }));
        await store.wanted.terminate(ws.name, old.name, { reason: 'asked', atMs: T + 10 });
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
        expect(await store.wanted.revise(other.name, sandbox.name, { labels: { a: 'b' } }, T)).toBeUndefined();
        expect(await store.wanted.terminate(other.name, sandbox.name, { reason: 'no', atMs: T })).toBeUndefined();
        await insert(sandboxIn(other.name, { name: sandbox.name }));
      });

      it('leads to the node only while the sandbox is ready', async () => {
        const ws = fresh();
        const sandbox = await insert(sandboxIn(ws.name));
        expect(await ws.sandboxes.routeOf(sandbox.name)).toBeUndefined();
        const made = await store.wanted.becameReady(sandbox, T + 5);
        expect(made).toMatchObject({ phase: 'ready', updatedAtMs: T + 5 });
        const { instanceId, generation, nodeId } = sandbox;
        expect(await ws.sandboxes.routeOf(sandbox.name)).toEqual({
          sandbox: made,
          route: { instanceId, generation, nodeId, nodeUrl: 'http://node-a:1' },
        });
        await store.wanted.terminate(ws.name, sandbox.name, { reason: 'asked', atMs: T });
        expect(await ws.sandboxes.routeOf(sandbox.name)).toBeUndefined();
      });

      it('finds the newest by external id that is not terminated', async () => {
        const ws = fresh();
        await ready(sandboxIn(ws.name, { externalId: 'job-7' }));
        const newer = await ready(sandboxIn(ws.name, { externalId: 'job-7' }));
        expect((await ws.sandboxes.byExternalId('job-7'))?.instanceId).toBe(newer.instanceId);
        await store.wanted.terminate(ws.name, newer.name, { reason: 'asked', atMs: T });
        expect((await ws.sandboxes.byExternalId('job-7'))?.instanceId).not.toBe(newer.instanceId);
      });
    });

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
        await store.wanted.terminate(ws.name, SandboxName.parse('fig'), { reason: 'asked', atMs: T });
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

    describe('the scheduler’s changes', () => {
      it('are fenced: an incarnation that is no longer the sandbox’s changes nothing', async () => {
        const ws = fresh();
        const old = await ready(sandboxIn(ws.name));
        const moved = await store.wanted.supersede(old, {
          ...next(old),
          nodeId: NodeId.parse('node-b'),
          from: 'ready',
          atMs: T + 1,
          reason: 'moved',
        });
        expect(moved).toMatchObject({ generation: 2, nodeId: 'node-b', phase: 'creating', name: old.name });
        expect(await store.wanted.becameReady(old, T)).toBeUndefined();
        expect(await store.wanted.fail(old, { reason: 'late', atMs: T })).toBeUndefined();
        expect(await store.wanted.abandon(old, { reason: 'late', atMs: T })).toBe(false);
        expect(
          await store.wanted.supersede(old, {
            ...next(old),
            nodeId: old.nodeId,
            from: 'ready',
            atMs: T,
            reason: 'late',
          }),
        ).toBeUndefined();
        expect(await store.wanted.terminate(ws.name, old.name, { reason: 'late', atMs: T, who: old })).toBeUndefined();
        expect(moved && (await store.wanted.becameReady(moved, T + 2))?.phase).toBe('ready');
      });

      it('remember of what a fork was made, until it is made anew', async () => {
        const ws = fresh();
        const parent = await ready(sandboxIn(ws.name));
        const origin = { instanceId: parent.instanceId, name: parent.name, snapshot: 'habcdefgh-1' };
        const fork = await ready({ ...sandboxIn(ws.name), origin });
        expect((await ws.sandboxes.get(fork.name, T))?.origin).toEqual(origin);
        expect((await ws.sandboxes.get(parent.name, T))?.origin).toBeUndefined();
        const anew = { ...next(fork), nodeId: fork.nodeId, atMs: T, reason: 'env', from: 'ready' } as const;
        const moved = await store.wanted.supersede(fork, anew);
        expect([moved?.phase, moved?.origin]).toEqual(['creating', undefined]);
      });

      it('made for one phase leave a sandbox alone that is in another by now', async () => {
        const ws = fresh();
        const answered = await ready(sandboxIn(ws.name));
        const move = { ...next(answered), nodeId: answered.nodeId, atMs: T, reason: 'not started in time' };
        expect(await store.wanted.supersede(answered, { ...move, from: 'creating' })).toBeUndefined();
        expect(await store.wanted.fail(answered, { reason: 'not started', atMs: T, from: 'creating' })).toBeUndefined();
        expect(await store.wanted.endings({ instanceIds: [answered.instanceId] })).toEqual([]);
        const coming = await insert(sandboxIn(ws.name));
        const restart = { ...next(coming), nodeId: coming.nodeId, atMs: T, reason: 'env' };
        expect(await store.wanted.supersede(coming, { ...restart, from: 'ready' })).toBeUndefined();
        expect(await store.wanted.fail(coming, { reason: 'not started', atMs: T, from: 'creating' })).toMatchObject({
          phase: 'failed',
        });
      });

      it('write down in the same commit which incarnation must end, and where', async () => {
        const ws = fresh();
        const endingsOf = async (sandbox: Sandbox) => store.wanted.endings({ instanceIds: [sandbox.instanceId] });
        const moved = await ready(sandboxIn(ws.name));
        await store.wanted.supersede(moved, {
          ...next(moved),
          nodeId: NodeId.parse('node-b'),
          from: 'ready',
          atMs: T + 1,
          reason: 'moved',
        });
        expect(await endingsOf(moved)).toEqual([
          {
            instanceId: moved.instanceId,
            generation: 1,
            nodeId: 'node-a',
            workspace: ws.name,
            reason: 'moved',
            sinceMs: T + 1,
          },
        ]);
        const abandoned = await insert(sandboxIn(ws.name));
        expect(await store.wanted.abandon(abandoned, { reason: 'no image', atMs: T })).toBe(true);
        expect(await ws.sandboxes.get(abandoned.name, T)).toBeUndefined();
        expect(await endingsOf(abandoned)).toMatchObject([{ reason: 'no image' }]);
        const failed = await ready(sandboxIn(ws.name));
        expect(await store.wanted.fail(failed, { reason: 'its node lost it', atMs: T })).toMatchObject({
          phase: 'failed',
          reason: 'its node lost it',
        });
        expect(await endingsOf(failed)).toMatchObject([{ reason: 'its node lost it' }]);
        const deleted = await ready(sandboxIn(ws.name));
        await store.wanted.terminate(ws.name, deleted.name, { reason: 'asked', atMs: T });
        expect(await endingsOf(deleted)).toMatchObject([{ reason: 'asked', nodeId: 'node-a' }]);
      });

      it('leave the files of one that failed with its node, until it is terminated', async () => {
        const ws = fresh();
        const broken = await ready(sandboxIn(ws.name));
        const endings = () => store.wanted.endings({ instanceIds: [broken.instanceId] });
        const held = async () =>
          (await store.wanted.onNode(broken.nodeId)).filter((one) => one.instanceId === broken.instanceId);
        expect(await store.wanted.failKept(broken, { reason: 'killed', atMs: T })).toMatchObject({ phase: 'failed' });
        expect(await store.wanted.failKept(broken, { reason: 'again', atMs: T })).toBeUndefined();
        expect([await endings(), await held()]).toMatchObject([[], [{ phase: 'failed' }]]);
        await store.wanted.terminate(ws.name, broken.name, { reason: 'asked', atMs: T });
        expect([await endings(), await held()]).toMatchObject([[{ reason: 'asked' }], []]);
      });

      it('keep the first reason when a failed sandbox is terminated, and know it still as taken before', async () => {
        const ws = fresh();
        const failed = await ready(sandboxIn(ws.name));
        await store.wanted.fail(failed, { reason: 'lost', atMs: T });
        expect(await store.wanted.living(ws.name, failed.name)).toBeUndefined();
        const again = await store.wanted.insert(sandboxIn(ws.name, { name: failed.name }), {});
        expect(again).toMatchObject({ kind: 'taken', sandbox: { phase: 'failed' } });
        expect(await store.wanted.terminate(ws.name, failed.name, { reason: 'replaced', atMs: T })).toMatchObject({
          phase: 'terminated',
        });
        expect(await store.wanted.endings({ instanceIds: [failed.instanceId] })).toMatchObject([{ reason: 'lost' }]);
      });

      it('an ending that was confirmed is no longer open, but known for a while', async () => {
        const ws = fresh();
        const gone = await ready(sandboxIn(ws.name, { nodeId: NodeId.parse('node-b') }));
        await store.wanted.terminate(ws.name, gone.name, { reason: 'asked', atMs: T });
        const open = async () =>
          (await store.wanted.endings({ nodeId: gone.nodeId })).some((e) => e.instanceId === gone.instanceId);
        expect(await open()).toBe(true);
        await store.wanted.ended(gone, T + 5);
        await store.wanted.ended(gone, T + 9);
        expect(await open()).toBe(false);
        expect(await store.wanted.endings({ instanceIds: [gone.instanceId] })).toMatchObject([{ endedAtMs: T + 5 }]);
        await store.wanted.sweep({ nowMs: T, endedBeforeMs: T + 5 });
        expect(await store.wanted.endings({ instanceIds: [gone.instanceId] })).toHaveLength(1);
        await store.wanted.sweep({ nowMs: T, endedBeforeMs: T + 6 });
        expect(await store.wanted.endings({ instanceIds: [gone.instanceId] })).toHaveLength(0);
      });

      it('never abandon a sandbox that was answered once, though it is being made anew', async () => {
        const ws = fresh();
        const old = await ready(sandboxIn(ws.name));
        const anew = await store.wanted.supersede(old, {
          ...next(old),
          nodeId: old.nodeId,
          from: 'ready',
          atMs: T - 500,
          reason: 'env',
        });
        expect(anew && (await store.wanted.abandon(anew, { reason: 'stuck', atMs: T }))).toBe(false);
        const stuck = (await store.wanted.stuckCreating(T - 499)).filter((one) => one.sandbox.workspace === ws.name);
        expect(stuck).toEqual([{ sandbox: anew, wasReady: true }]);
      });

      it('revise only what is given', async () => {
        const ws = fresh();
        const sandbox = await ready(
          sandboxIn(ws.name, { displayName: 'old', labels: { a: '1' }, expiry: { maxAgeMs: 5 } }),
        );
        const revised = await store.wanted.revise(
          ws.name,
          sandbox.name,
          { labels: { b: '2' }, expiry: {}, idle: { kind: 'never' } },
          T + 3,
        );
        expect(revised).toMatchObject({ displayName: 'old', updatedAtMs: T + 3, phase: 'ready' });
        expect([revised?.labels, revised?.expiry, revised?.idle]).toEqual([{ b: '2' }, {}, { kind: 'never' }]);
        expect(await ws.sandboxes.get(sandbox.name, T)).toEqual(revised);
      });

      it('replace the env when a sandbox is restarted with another, and keep it otherwise', async () => {
        const ws = fresh();
        const first = sandboxIn(ws.name, { envNames: ['A'] });
        await insert(first, { A: '1' });
        const second = await store.wanted.supersede(first, {
          ...next(first),
          nodeId: first.nodeId,
          from: 'creating',
          atMs: T,
          reason: 'env',
          env: { C: '3', B: '2' },
        });
        expect(second?.envNames).toEqual(['B', 'C']);
        const third =
          second &&
          (await store.wanted.supersede(second, {
            ...next(second),
            nodeId: first.nodeId,
            from: 'creating',
            atMs: T,
            reason: 'move',
          }));
        expect(third && (await store.wanted.envOf(third))).toEqual({ B: '2', C: '3' });
        expect(await store.wanted.envOf(first)).toBeUndefined();
      });

      it('note use forwards only, and only of the incarnation that was used', async () => {
        const ws = fresh();
        const sandbox = await ready(sandboxIn(ws.name));
        const used = async () => (await ws.sandboxes.get(sandbox.name, T))?.lastUsedAtMs;
        await store.wanted.noteUse([{ ...sandbox, lastUsedAtMs: T + 50 }]);
        await store.wanted.noteUse([{ ...sandbox, lastUsedAtMs: T + 20 }]);
        await store.wanted.noteUse([{ ...next(sandbox), lastUsedAtMs: T + 99 }]);
        expect(await used()).toBe(T + 50);
      });

      it('show what lives where, what may expire and what is stuck', async () => {
        const ws = fresh();
        const nodeId = NodeId.parse(word('node-'));
        const creating = await insert(sandboxIn(ws.name, { nodeId, updatedAtMs: T - 100 }));
        const expiring = await ready(sandboxIn(ws.name, { nodeId, expiry: { idleMs: 1 } }));
        const gone = await ready(sandboxIn(ws.name, { nodeId, expiry: { idleMs: 1 } }));
        await store.wanted.terminate(ws.name, gone.name, { reason: 'asked', atMs: T });
        const ids = (list: readonly Pick<Sandbox, 'workspace' | 'instanceId'>[]) =>
          list
            .filter((s) => s.workspace === ws.name)
            .map((s) => s.instanceId)
            .sort();
        expect(ids(await store.wanted.onNode(nodeId))).toEqual([creating.instanceId, expiring.instanceId].sort());
        const { instanceId, generation, name, idle, lastUsedAtMs } = creating;
        expect((await store.wanted.onNode(nodeId)).find((one) => one.name === name)).toEqual({
          ...{ instanceId, generation, nodeId, workspace: ws.name, name, phase: 'creating' },
          ...{ idle, lastUsedAtMs, memoryMib: 512 },
        });
        expect(ids(await store.wanted.expiring())).toEqual([expiring.instanceId]);
        const stuck = async (beforeMs: number) =>
          ids((await store.wanted.stuckCreating(beforeMs)).map((one) => one.sandbox));
        expect([await stuck(T - 99), await stuck(T - 100)]).toEqual([[creating.instanceId], []]);
        expect((await store.wanted.load()).filter((load) => load.nodeId === nodeId)).toEqual([
          { nodeId, living: 2, memoryMib: 1024 },
        ]);
      });

      it('sweep terminated rows past their retention', async () => {
        const ws = fresh();
        const gone = await ready(sandboxIn(ws.name, { terminatedRetentionMs: 10 }));
        await store.wanted.terminate(ws.name, gone.name, { reason: 'asked', atMs: T });
        await store.wanted.sweep({ nowMs: T + 9, endedBeforeMs: 0 });
        expect(await ws.sandboxes.get(gone.name, T)).toBeDefined();
        expect(await store.wanted.sweep({ nowMs: T + 10, endedBeforeMs: 0 })).toBeGreaterThanOrEqual(1);
        expect(await ws.sandboxes.get(gone.name, T)).toBeUndefined();
      });
    });

    describe('keys', () => {
      it('are found by prefix, opened by their secret alone, and refused when revoked or expired', async () => {
        const ws = fresh();
        const minted = mintKey(systemChance);
        const made = await ws.keys.create({ ...personOf(minted), scopes: ['sandboxes:*'], expiresAtMs: T + 10 });
        expect(made).toMatchObject({ workspace: ws.name, scopes: ['sandboxes:*'] });
        expect(JSON.stringify(made)).not.toContain(readKey(minted.text)?.secret);
        const read = readKey(minted.text);
        const stored = await store.keys.findByPrefix(read?.prefix ?? '');
        const secret = read?.secret ?? '';
        expect(checkKey(stored, secret, T)).toEqual({ kind: 'good', key: made });
        expect(checkKey(stored, `${secret}x`, T)).toEqual({ kind: 'bad', why: 'unknown' });
        expect(checkKey(stored, secret, T + 10)).toEqual({ kind: 'bad', why: 'expired' });
        expect(await ws.keys.revoke(made.id, T + 1)).toMatchObject({ revokedAtMs: T + 1 });
        expect(await ws.keys.revoke(made.id, T + 2)).toMatchObject({ revokedAtMs: T + 1 });
        expect(checkKey(await store.keys.findByPrefix(made.prefix), secret, T)).toEqual({
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
        const personal = await store.keys.createPersonal(personOf(mintKey(systemChance)));
        expect((await ws.keys.list()).map((key) => key.id)).toEqual([bound.id]);
        expect((await store.keys.listPersonal()).map((key) => key.id)).toContain(personal.id);
        expect(await other.keys.revoke(bound.id, T)).toBeUndefined();
        expect(await ws.keys.revoke(personal.id, T)).toBeUndefined();
        await store.keys.noteUse([
          { id: bound.id, atMs: T + 5 },
          { id: personal.id, atMs: T + 6 },
        ]);
        await store.keys.noteUse([{ id: bound.id, atMs: T + 1 }]);
        expect((await ws.keys.list())[0]?.lastUsedAtMs).toBe(T + 5);
      });
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
        await store.wanted.terminate(ws.name, sandbox.name, { reason: 'asked', atMs: T });
        expect(await ws.previews.list(sandbox.name)).toEqual([]);
        expect(await store.publicPreviews.find(preview.id)).toBeUndefined();
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
        const way = await store.publicPreviews.find(preview.id);
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

    describe('idempotency', () => {
      const ask = { key: 'k', requestHash: 'h', nowMs: T, claimUntilMs: T + 10, expiresAtMs: T + 100 };

      it('lets one of many through, and gives the others its answer afterwards', async () => {
        const shelf = fresh().idempotency;
        const kinds = (await Promise.all(Array.from({ length: 8 }, () => shelf.begin(ask)))).map(
          (answer) => answer.kind,
        );
        expect(kinds.sort()).toEqual(['begun', ...Array.from({ length: 7 }, () => 'running')]);
        await shelf.finish('k', { status: 200, body: [null] });
        expect(await shelf.begin(ask)).toEqual({ kind: 'answered', answer: { status: 200, body: [null] } });
        expect(await shelf.begin({ ...ask, requestHash: 'other' })).toEqual({ kind: 'mismatch' });
        expect(await shelf.begin({ ...ask, nowMs: T + 100 })).toEqual({ kind: 'begun' });
      });

      it('frees a key that was abandoned or whose holder died', async () => {
        const shelf = fresh().idempotency;
        await shelf.begin(ask);
        await shelf.abandon('k');
        expect(await shelf.begin(ask)).toEqual({ kind: 'begun' });
        expect(await shelf.begin({ ...ask, nowMs: T + 9 })).toEqual({ kind: 'running' });
        expect(await shelf.begin({ ...ask, nowMs: T + 10, claimUntilMs: T + 20 })).toEqual({ kind: 'begun' });
      });

      it('is each tenant’s own', async () => {
        await fresh().idempotency.begin(ask);
        expect(await fresh().idempotency.begin(ask)).toEqual({ kind: 'begun' });
      });
    });

    describe('the audit log', () => {
      it('chains every row, also of concurrent writers, and shows each tenant its own, newest first', async () => {
        const ws = fresh();
        const entry = { atMs: T, workspace: ws.name, actor: 'user:ada', action: 'sandbox.create', outcome: 'ok' };
        await store.audit.append({ ...entry, target: 'first', details: { image: 'base' } });
        await Promise.all(Array.from({ length: 20 }, (_, n) => store.audit.append({ ...entry, target: `t${n}` })));
        await store.audit.append({ atMs: T, actor: 'system', action: 'start', outcome: 'ok' });
        const rows = await ws.audit.list({ limit: 100 });
        expect(rows).toHaveLength(21);
        expect(rows.at(-1)).toMatchObject({ target: 'first', details: { image: 'base' } });
        expect(await ws.audit.list({ limit: 100, beforeSequence: rows[19]?.sequence ?? 0 })).toHaveLength(1);
        expect((await store.audit.verify()).brokenAt).toBeUndefined();
        expect((await store.audit.verify()).rows).toBeGreaterThanOrEqual(22);
      });

      it('can be cut off from its beginning, so many rows at once, and what is left is still vouched for', async () => {
        const entry = { actor: 'user:ada', action: 'sandbox.create', outcome: 'ok' };
        await store.audit.append({ ...entry, atMs: T });
        const { rows } = await store.audit.verify();
        expect(await store.audit.prune({ beforeMs: T, limit: 100 })).toBe(0);
        expect(await store.audit.prune({ beforeMs: T + 1, limit: 1 })).toBe(1);
        expect(await store.audit.verify()).toEqual({ rows: rows - 1 });
        await store.audit.append({ ...entry, atMs: T });
        expect(await store.audit.verify()).toEqual({ rows });
      });
    });

    describe('usage', () => {
      it('books each interval once, however often it is sent', async () => {
        const ws = fresh();
        const { instanceId, nodeId } = await insert(sandboxIn(ws.name));
        const at = (sequence: number, tier: UsageInterval['tier'], wake?: UsageInterval['wake']) => ({
          workspace: ws.name,
          instanceId,
          generation: Generation.parse(1),
          sequence,
          fromMs: T + sequence * 10,
          toMs: T + sequence * 10 + 10,
          tier,
          cpuMs: 2.5,
          memoryMibMs: 5_120,
          egressBytes: 3_000_000_000,
          diskMib: 7,
          ...(wake ? { wake } : {}),
        });
        const woken = [at(3, 'stored', 'whole'), at(4, 'stored', 'lost'), at(5, 'stored')];
        expect(await store.usage.book(nodeId, [at(0, 'running'), at(1, 'paused')])).toEqual({ booked: 2, refused: [] });
        expect(await store.usage.book(nodeId, [at(1, 'paused'), at(2, 'running')])).toEqual({ booked: 1, refused: [] });
        expect(await store.usage.book(nodeId, woken)).toEqual({ booked: 3, refused: [] });
        const sums = (tier: UsageInterval['tier'], times: number, wakes = 0, wakesLost = 0) => ({
          instanceId,
          tier,
          spanMs: 10 * times,
          cpuMs: 2.5 * times,
          memoryMibMs: 5_120 * times,
          egressBytes: 3_000_000_000 * times,
          diskMibMs: 70 * times,
          wakes,
          wakesLost,
        });
        expect(await ws.usage.sum({ fromMs: T, toMs: T + 100 })).toEqual([
          sums('paused', 1),
          sums('running', 2),
          sums('stored', 3, 2, 1),
        ]);
        expect(await fresh().usage.sum({ fromMs: T, toMs: T + 100 })).toEqual([]);
      });

      it('is booked by the node that has or had the incarnation, for its workspace, and by no other', async () => {
        const ws = fresh();
        const moved = await ready(sandboxIn(ws.name));
        const now = await store.wanted.supersede(moved, {
          ...next(moved),
          nodeId: NodeId.parse('node-b'),
          from: 'ready',
          atMs: T,
          reason: 'moved',
        });
        if (!now) throw new Error('it is ready, and so it moves');
        const of = (who: Pick<Sandbox, 'instanceId' | 'generation'>, workspace = ws.name) => ({
          workspace,
          instanceId: who.instanceId,
          generation: who.generation,
          sequence: 0,
          fromMs: T,
          toMs: T + 10,
          tier: 'running' as const,
          cpuMs: 1,
          memoryMibMs: 1,
          egressBytes: 1,
          diskMib: 1,
        });
        const refused = (who: { instanceId: InstanceId }) => ({ booked: 0, refused: [who.instanceId] });
        expect(await store.usage.book(moved.nodeId, [of(now)])).toEqual(refused(now));
        expect(await store.usage.book(now.nodeId, [of(moved)])).toEqual(refused(moved));
        expect(await store.usage.book(now.nodeId, [of(now, fresh().name)])).toEqual(refused(now));
        const never = sandboxIn(ws.name);
        expect(await store.usage.book(moved.nodeId, [of(moved), of(never)])).toEqual({
          booked: 1,
          refused: [never.instanceId],
        });
        expect(await store.usage.book(now.nodeId, [of(now)])).toEqual({ booked: 1, refused: [] });
      });

      it('is forgotten when it ended long ago, so many intervals at once', async () => {
        const ws = fresh();
        const { instanceId, generation, nodeId } = await insert(sandboxIn(ws.name));
        const rest = { cpuMs: 1, memoryMibMs: 1, egressBytes: 1, diskMib: 1, tier: 'running' as const };
        const at = (sequence: number, toMs: number) => ({
          ...rest,
          workspace: ws.name,
          instanceId,
          generation,
          sequence,
          fromMs: toMs - 1,
          toMs,
        });
        await store.usage.book(nodeId, [at(0, T - 900), at(1, T - 800), at(2, T - 700), at(3, T - 600)]);
        expect(await store.usage.prune({ beforeMs: T - 600, limit: 2 })).toBe(2);
        expect(await store.usage.prune({ beforeMs: T - 600, limit: 2 })).toBe(1);
        expect(await store.usage.prune({ beforeMs: T - 600, limit: 2 })).toBe(0);
        expect(await ws.usage.sum({ fromMs: 0, toMs: T })).toMatchObject([{ spanMs: 1 }]);
      });
    });

    describe('the fleet and workspaces', () => {
      it('knows each node as it was heard last, whatever the order of arrival', async () => {
        const id = NodeId.parse(word('node-'));
        await store.fleet.heard({ ...node(id), heardAtMs: T + 5, leaseUntilMs: T + 25 });
        await store.fleet.heard({ ...node(id), heardAtMs: T + 1, url: 'http://stale' });
        expect(await store.fleet.get(id)).toEqual({ ...node(id), heardAtMs: T + 5, leaseUntilMs: T + 25 });
        expect((await store.fleet.list()).map((one) => one.id)).toContain(id);
      });

      it('makes a workspace once', async () => {
        const workspace = {
          name: WorkspaceName.parse(word('ws-')),
          displayName: 'One',
          createdAtMs: T,
          createdBy: 'user:ada',
        };
        expect(await store.workspaces.create(workspace)).toEqual({ kind: 'created', workspace });
        expect(await store.workspaces.create({ ...workspace, displayName: 'Two' })).toEqual({
          kind: 'taken',
          workspace,
        });
        expect(await store.workspaces.get(workspace.name)).toEqual(workspace);
        expect(await store.workspaces.list()).toContainEqual(workspace);
      });
    });
  });
}

function node(id: string): NodeRecord {
  return {
    id: NodeId.parse(id),
    url: `http://${id}:1`,
    isolation: 'none',
    templates: ['base'],
    capacity: { memoryMib: 1000, memoryFreeMib: 900.5, diskFreeMib: 5, slotsFree: 3 },
    pool: [{ template: 'base', shape: { memoryMib: 512, cpus: 1, diskMib: 1024, pids: 256 }, ready: 1, target: 2 }],
    heardAtMs: T,
    leaseUntilMs: 0,
  };
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
