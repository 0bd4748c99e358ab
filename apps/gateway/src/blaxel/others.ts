/** The small truths of the control plane: who and where one is. */
import { WorkspaceName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { Store, Workspace } from '@torpor/store';
import type { Admission } from '../callers/admission.ts';
import type { Row } from './ask.ts';

export function otherRows({ store, admission }: { store: Store; admission: Admission }): Row[] {
  return [
    {
      method: 'GET',
      pattern: '/workspaces',
      action: 'workspaces:read',
      handle: async ({ caller }) => {
        const all = await store.workspaces.list();
        const { workspace } = caller.key;
        return all.filter((each) => workspace === undefined || each.name === workspace).map(show);
      },
    },
    {
      method: 'GET',
      pattern: '/workspaces/:name',
      action: 'workspaces:read',
      handle: async ({ caller, params }) => {
        const name = WorkspaceName.safeParse(params['name']);
        if (!name.success) throw new Failure('not_found', 'there is no workspace of that name');
        admission.demand(caller.key, 'workspaces:read', name.data);
        const workspace = await store.workspaces.get(name.data);
        if (!workspace) throw new Failure('not_found', `there is no workspace "${name.data}"`);
        return show(workspace);
      },
    },
    // Nothing is limited here, and there are no regions to choose from.
    { method: 'GET', pattern: '/quotas/account/:id', action: 'workspaces:read', handle: async () => [] },
    {
      method: 'GET',
      pattern: '/configuration',
      action: 'workspaces:read',
      handle: async () => ({ continents: [], countries: [], privateLocations: [], regions: [] }),
    },
    { method: 'GET', pattern: '/locations', action: 'workspaces:read', handle: async () => [] },
    { method: 'GET', pattern: '/features', action: 'workspaces:read', handle: async () => ({ features: {} }) },
  ];
}

function show({ name, displayName, createdAtMs, createdBy }: Workspace): unknown {
  const createdAt = new Date(createdAtMs).toISOString();
  return {
    id: name,
    name,
    displayName,
    accountId: 'torpor',
    status: 'ready',
    labels: {},
    createdAt,
    updatedAt: createdAt,
    createdBy,
    updatedBy: createdBy,
  };
}
