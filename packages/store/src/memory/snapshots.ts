import type { InstanceId, NodeId, WorkspaceName } from '@torpor/contracts';
import type { SnapshotBook, SnapshotRecord } from '../store.ts';
import type { SandboxRows } from './sandboxes.ts';

type Env = Readonly<Record<string, string>>;

export class SnapshotRows {
  readonly #rows = new Map<string, { record: SnapshotRecord; env: Env }>();

  book(sandboxes: SandboxRows): SnapshotBook {
    return {
      put: async (record) => {
        const now = sandboxes.readyNow(record.sandbox.instanceId);
        if (!now) return false;
        const there = this.#rows.get(record.id);
        const sandbox = { ...record.sandbox, nodeId: now.nodeId };
        if (!there) this.#rows.set(record.id, { record: structuredClone({ ...record, sandbox }), env: now.env });
        return true;
      },
      find: async (workspace, id) => this.#find(workspace, id, sandboxes)?.record,
      envOf: async (workspace, id) => this.#find(workspace, id, sandboxes)?.env,
      drop: async (workspace, id) => {
        const row = this.#rows.get(id);
        if (row?.record.sandbox.workspace !== workspace) return undefined;
        this.#rows.delete(id);
        return row.record;
      },
      keptOn: async (nodeId) => {
        const all = [...this.#rows.values()].map(({ record }) => record);
        return all.filter(({ keptSinceMs, sandbox }) => keptSinceMs !== undefined && sandbox.nodeId === nodeId).length;
      },
    };
  }

  async list(workspace: WorkspaceName, sandboxes: SandboxRows): Promise<readonly SnapshotRecord[]> {
    const mine = [...this.#rows.values()].map(({ record }) => record);
    return mine
      .filter((record) => record.sandbox.workspace === workspace && isThere(record, sandboxes))
      .toSorted((a, b) => a.atMs - b.atMs || (a.id < b.id ? -1 : 1));
  }

  /** Its sandbox ends, and they do not. Answers their ids. */
  keepOf(instanceId: InstanceId, atMs: number): string[] {
    const mine = [...this.#rows.values()].filter(({ record }) => record.sandbox.instanceId === instanceId);
    for (const row of mine) row.record = { ...row.record, keptSinceMs: atMs };
    return mine.map(({ record }) => record.id).toSorted();
  }

  /** Its sandbox lives on another node from now on, and so do they. */
  moveOf(instanceId: InstanceId, nodeId: NodeId): void {
    for (const row of this.#rows.values()) {
      const { sandbox } = row.record;
      if (sandbox.instanceId === instanceId) row.record = { ...row.record, sandbox: { ...sandbox, nodeId } };
    }
  }

  forget(sandboxes: SandboxRows): number {
    const gone = [...this.#rows.values()].filter(({ record }) => !isThere(record, sandboxes));
    for (const { record } of gone) this.#rows.delete(record.id);
    return gone.length;
  }

  #find(workspace: WorkspaceName, id: string, sandboxes: SandboxRows) {
    const row = this.#rows.get(id);
    return row && row.record.sandbox.workspace === workspace && isThere(row.record, sandboxes) ? row : undefined;
  }
}

function isThere({ keptSinceMs, sandbox }: SnapshotRecord, sandboxes: SandboxRows): boolean {
  return keptSinceMs !== undefined || sandboxes.has(sandbox.instanceId);
}
