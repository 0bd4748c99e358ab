/** The nodes as an operator sees them, and emptying one. */
import type { Wire } from '@torpor/bus';
import type { NodeDetailView, NodeView } from '@torpor/api';
import { drainNode, drainProgress, type NodeId } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { NodeRecord, Store } from '@torpor/store';

export interface Nodes {
  list(): Promise<NodeView[]>;
  get(nodeId: NodeId, traceparent: string): Promise<NodeDetailView>;
  drain(nodeId: NodeId, drain: boolean, traceparent: string): Promise<NodeDetailView>;
}

export function openNodes({ store, wire }: { store: Store; wire: Wire }): Nodes {
  async function get(nodeId: NodeId, traceparent: string): Promise<NodeDetailView> {
    const node = await store.fleet.get(nodeId);
    if (!node) throw new Failure('not_found', `there is no node "${nodeId}"`);
    return { ...nodeView(node), ...(await wire.ask(drainProgress, { nodeId }, { traceparent })) };
  }
  return {
    list: async () => (await store.fleet.list()).map(nodeView),
    get,
    async drain(nodeId, drain, traceparent) {
      await wire.ask(drainNode, { nodeId, drain }, { traceparent });
      return await get(nodeId, traceparent);
    },
  };
}

function nodeView(node: NodeRecord): NodeView {
  const { id, url, isolation, templates, capacity, pool, heardAtMs, drainingSinceMs } = node;
  const draining = drainingSinceMs === undefined ? {} : { drainingSinceMs };
  return { id, url, isolation, templates: [...templates], capacity, pool: [...pool], heardAtMs, ...draining };
}
