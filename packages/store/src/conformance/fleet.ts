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
  });
}
