/**
 * What the router needs done. The gateway gives an implementation bound to one admitted caller and its workspace; whatever rejects with a `Failure`
 * reaches the client with its code.
 */
import type { Action } from '@torpor/policy';
import type {
  BySnapshot,
  CallerView,
  CreateKeyInput,
  CreateSandboxInput,
  EventView,
  ForkInput,
  ForksView,
  KeyView,
  ListInput,
  MakeSnapshotInput,
  MovedView,
  MoveInput,
  NewKeyView,
  NodeDetailView,
  NodeView,
  ReceiptKeyView,
  ReceiptsView,
  ResumeView,
  RestoredView,
  SandboxPageView,
  SandboxView,
  SnapshotView,
  StateView,
  StatsView,
  StoreView,
  WorkspaceView,
} from './shapes.ts';

type Named = { readonly name: SandboxView['name'] };

export interface Services {
  readonly caller: CallerView;
  readonly sandboxes: {
    create(input: CreateSandboxInput): Promise<SandboxView>;
    get(which: Named): Promise<SandboxView>;
    list(input: ListInput): Promise<SandboxPageView>;
    delete(which: Named): Promise<SandboxView>;
    pause(which: Named): Promise<StateView>;
    resume(which: Named): Promise<ResumeView>;
    store(which: Named): Promise<StoreView>;
    fork(input: ForkInput): Promise<ForksView>;
    /** Resolves when it lives there. */
    move(input: MoveInput): Promise<MovedView>;
  };
  readonly receipts: {
    list(which: Named): Promise<ReceiptsView>;
    key(which: { nodeId: NodeView['id'] }): Promise<ReceiptKeyView>;
  };
  readonly snapshots: {
    create(input: MakeSnapshotInput): Promise<SnapshotView>;
    list(which: Named): Promise<SnapshotView[]>;
    restore(which: BySnapshot): Promise<RestoredView>;
    delete(which: BySnapshot): Promise<SnapshotView>;
  };
  readonly keys: {
    create(input: CreateKeyInput): Promise<NewKeyView>;
    list(): Promise<KeyView[]>;
    revoke(which: { id: string }): Promise<KeyView>;
  };
  readonly nodes: {
    list(): Promise<NodeView[]>;
    get(which: { nodeId: NodeView['id'] }): Promise<NodeDetailView>;
    /** What lives there moves away from now on; `get` tells how far it is. */
    drain(which: { nodeId: NodeView['id'] }): Promise<NodeDetailView>;
    undrain(which: { nodeId: NodeView['id'] }): Promise<NodeDetailView>;
  };
  readonly workspaces: { list(): Promise<WorkspaceView[]> };
  /** Ends when the signal aborts. A watcher that does not keep up loses the oldest. */
  events(signal: AbortSignal): AsyncIterable<EventView>;
  stats(input: { spanMs: number }): Promise<StatsView>;
}

export interface ApiContext {
  readonly services: Services;
  /** Throws `forbidden` unless the caller may. */
  demand(action: Action): void;
}
