import { DEFAULT_SHAPE, type Isolation, type NodeId, type Shape } from '@torpor/contracts';

/** A node as it was heard last, less what was placed on it since. */
export interface FleetNode {
  readonly id: NodeId;
  readonly isolation: Isolation;
  readonly templates: readonly string[];
  readonly memoryMib: number;
  readonly memoryFreeMib: number;
  /** All that its disks may take together. Absent: it did not say. */
  readonly diskMib?: number | undefined;
  readonly diskFreeMib: number;
  readonly slotsFree: number;
  readonly pool: readonly { readonly template: string; readonly shape: Shape; readonly ready: number }[];
  /** Sum of the memory limits of all that lives on it. */
  readonly promisedMib: number;
  readonly heardAtMs: number;
  /** 0: it needs no lease, and is alive while it is heard. */
  readonly leaseUntilMs: number;
  /** Somebody wants it empty. */
  readonly isDraining?: boolean;
}

export interface PlacementAsk {
  readonly template: string;
  readonly shape: Shape;
  readonly nowMs: number;
  /** Absent: any that its operator runs. */
  readonly isolation?: readonly Isolation[];
  /** Nodes that have just refused it or failed at it. */
  readonly avoid?: readonly NodeId[];
}

export interface PlacementRules {
  readonly overcommit: number;
  /** Kept free on every node; at least this share of its memory, too. */
  readonly memoryReserveMib: number;
  readonly memoryReserveShare: number;
  /** What a fresh instance takes before it runs anything of the tenant's. */
  readonly freshInstanceMib: number;
  readonly diskReserveMib: number;
  /** A disk limit up to this is welcome on a smaller pool, too: a limit costs nothing until it is written to, and this is what nobody asked for. */
  readonly diskMibAlways: number;
  /** A node without a lease that was not heard of for this long is not asked. */
  readonly silentMs: number;
  /** One that was not heard of for this long is not expected back. */
  readonly goneMs: number;
}

export const PLACEMENT_RULES: PlacementRules = {
  overcommit: 64,
  memoryReserveMib: 256,
  memoryReserveShare: 0.03,
  freshInstanceMib: 96,
  diskReserveMib: 256,
  diskMibAlways: DEFAULT_SHAPE.diskMib,
  silentMs: 20_000,
  goneMs: 24 * 3_600_000,
};

export function isPooled(node: FleetNode, ask: PlacementAsk): boolean {
  return node.pool.some(
    (pool) => pool.ready > 0 && pool.template === ask.template && isSameShape(pool.shape, ask.shape),
  );
}

export function isSameShape(a: Shape, b: Shape): boolean {
  return a.memoryMib === b.memoryMib && a.cpus === b.cpus && a.diskMib === b.diskMib && a.pids === b.pids;
}
