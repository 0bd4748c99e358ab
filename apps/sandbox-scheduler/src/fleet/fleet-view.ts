import type { NodeId, Shape } from '@torpor/contracts';
import { isAlive, withPlaced, type FleetNode } from '@torpor/policy';
import type { NodeRecord, Store } from '@torpor/store';

/**
 * The fleet as this scheduler sees it, in memory, so that a create asks the database nothing. It follows heartbeats and its own placements at once,
 * and what other schedulers heard at the next `refresh`.
 */
export class FleetView {
  readonly #nodes = new Map<NodeId, { record: NodeRecord; node: FleetNode }>();
  #draining: ReadonlySet<NodeId> = new Set();

  async refresh(store: Store): Promise<void> {
    const [records, loads] = await Promise.all([store.fleet.list(), store.wanted.load()]);
    this.#draining = new Set(records.flatMap(({ id, drainingSinceMs }) => (drainingSinceMs === undefined ? [] : [id])));
    for (const record of records) {
      const there = this.#nodes.get(record.id);
      if (there && there.record.heardAtMs >= record.heardAtMs) continue;
      this.heard(record, loads.find((load) => load.nodeId === record.id)?.memoryMib ?? 0);
    }
  }

  heard(record: NodeRecord, promisedMib: number): void {
    const { id, isolation, templates, capacity, pool, heardAtMs, leaseUntilMs } = record;
    this.#nodes.set(id, {
      record,
      node: { id, isolation, templates, ...capacity, pool, promisedMib, heardAtMs, leaseUntilMs },
    });
  }

  placed(nodeId: NodeId, ask: { template: string; shape: Shape; nowMs: number }): void {
    const there = this.#nodes.get(nodeId);
    if (there) this.#nodes.set(nodeId, { ...there, node: withPlaced(there.node, ask) });
  }

  nodes(): readonly FleetNode[] {
    return [...this.#nodes.values()].map(({ node }) => ({ ...node, isDraining: this.#draining.has(node.id) }));
  }

  /** As of the last `refresh`. */
  draining(): readonly NodeId[] {
    return [...this.#draining];
  }

  urlOf(nodeId: NodeId): string | undefined {
    return this.#nodes.get(nodeId)?.record.url;
  }

  isAlive(nodeId: NodeId, nowMs: number): boolean {
    const node = this.#nodes.get(nodeId)?.node;
    return node !== undefined && isAlive(node, nowMs);
  }
}
