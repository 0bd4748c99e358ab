import { NodeId, WorkspaceName } from '@torpor/contracts';
import { describe, expect, it } from 'vitest';
import { node, T, type Stage } from './stage.ts';

export function describeFleet(stage: Stage): void {
  const { word } = stage;

  describe('the fleet and workspaces', () => {
    it('knows each node as it was heard last, whatever the order of arrival', async () => {
      const id = NodeId.parse(word('node-'));
      await stage.store.fleet.heard({ ...node(id), heardAtMs: T + 5, leaseUntilMs: T + 25 });
      await stage.store.fleet.heard({ ...node(id), heardAtMs: T + 1, url: 'http://stale' });
      expect(await stage.store.fleet.get(id)).toEqual({ ...node(id), heardAtMs: T + 5, leaseUntilMs: T + 25 });
      expect((await stage.store.fleet.list()).map((one) => one.id)).toContain(id);
    });

    it('makes a workspace once', async () => {
      const workspace = {
        name: WorkspaceName.parse(word('ws-')),
        displayName: 'One',
        createdAtMs: T,
        createdBy: 'user:ada',
      };
      expect(await stage.store.workspaces.create(workspace)).toEqual({ kind: 'created', workspace });
      expect(await stage.store.workspaces.create({ ...workspace, displayName: 'Two' })).toEqual({
        kind: 'taken',
        workspace,
      });
      expect(await stage.store.workspaces.get(workspace.name)).toEqual(workspace);
      expect(await stage.store.workspaces.list()).toContainEqual(workspace);
    });

    it("lets a workspace's wake budget hold for those of its sandboxes that have none of their own", async () => {
      const { name: ws, ...rest } = { name: WorkspaceName.parse(word('ws-')), displayName: 'W', createdBy: 'user:ada' };
      await stage.store.workspaces.create({ ...rest, name: ws, createdAtMs: T });
      const nodeId = NodeId.parse(word('node-'));
      for (const own of [{ wakeBudget: { kind: 'cheapest' } as const }, {}])
        await stage.store.wanted.insert(stage.sandboxIn(ws, { nodeId, ...own }), {});
      const budgets = async () => (await stage.store.wanted.onNode(nodeId)).map((one) => one.wakeBudget?.kind).sort();

      expect(await budgets()).toEqual(['cheapest', undefined]);
      expect((await stage.store.workspaces.setWakeBudget(ws, { kind: 'p99', ms: 40 }))?.wakeBudget).toEqual({
        kind: 'p99',
        ms: 40,
      });
      expect(await budgets()).toEqual(['cheapest', 'p99']);
      expect(await stage.store.workspaces.setWakeBudget(ws, undefined)).not.toHaveProperty('wakeBudget');
      expect(await budgets()).toEqual(['cheapest', undefined]);
      expect(await stage.store.workspaces.setWakeBudget(WorkspaceName.parse(word('no-')), undefined)).toBeUndefined();
    });
  });
}
