/**
 * What the router needs done. The gateway gives an implementation bound to one admitted caller and its workspace; whatever rejects with a `Failure`
 * reaches the client with its code.
 */
import type { Action } from '@torpor/policy';
import type {
  AnySnapshot,
  AttachVolumeInput,
  BySnapshot,
  ByVolume,
  CallerView,
  CreateKeyInput,
  CreateSandboxInput,
  CreateVolumeInput,
  EventView,
  DeleteSandboxInput,
  DiffInput,
  DiffView,
  ForkInput,
  HistoryView,
  ListSnapshotsInput,
  ForksView,
  KeyView,
  ListInput,
  MakeSnapshotInput,
  MergeInput,
  MergeView,
  MovedView,
  MoveInput,
  NewKeyView,
  NodeDetailView,
  NodeView,
  ReceiptKeyView,
  ReceiptsView,
  ResizeVolumeInput,
  ResumeInput,
  ResumeView,
  RestoredView,
  SandboxPageView,
  SandboxView,
  SnapshotView,
  SnapshotVolumeInput,
  StateView,
  StatsView,
  DeepenView,
  UpdateSandboxInput,
  VolumeView,
  WorkspaceBudgetInput,
  WorkspaceView,
} from './shapes.ts';

type Named = { readonly name: SandboxView['name'] };

export interface Services {
  readonly caller: CallerView;
  readonly sandboxes: {
    create(input: CreateSandboxInput): Promise<SandboxView>;
    get(which: Named): Promise<SandboxView>;
    list(input: ListInput): Promise<SandboxPageView>;
    history(which: Named): Promise<HistoryView>;
    update(input: UpdateSandboxInput): Promise<SandboxView>;
    delete(which: DeleteSandboxInput): Promise<SandboxView>;
    pause(which: Named): Promise<StateView>;
    resume(input: ResumeInput): Promise<ResumeView>;
    lean(which: Named): Promise<DeepenView>;
    store(which: Named): Promise<DeepenView>;
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
    list(which: ListSnapshotsInput): Promise<SnapshotView[]>;
    restore(which: BySnapshot): Promise<RestoredView>;
    delete(which: AnySnapshot): Promise<SnapshotView>;
  };
  readonly files: {
    /** A point as it is now is kept for as long as it takes. */
    diff(input: DiffInput): Promise<DiffView>;
    /** Resolves when all of it is merged, or nothing. */
    merge(input: MergeInput): Promise<MergeView>;
  };
  readonly volumes: {
    list(): Promise<VolumeView[]>;
    get(which: ByVolume): Promise<VolumeView>;
    create(input: CreateVolumeInput): Promise<VolumeView>;
    snapshot(input: SnapshotVolumeInput): Promise<VolumeView>;
    resize(input: ResizeVolumeInput): Promise<VolumeView>;
    attach(input: AttachVolumeInput): Promise<VolumeView>;
    detach(which: ByVolume): Promise<VolumeView>;
    delete(which: ByVolume): Promise<VolumeView>;
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
  readonly workspaces: {
    list(): Promise<WorkspaceView[]>;
    setWakeBudget(input: WorkspaceBudgetInput): Promise<WorkspaceView>;
  };
  /** Ends when the signal aborts. A watcher that does not keep up loses the oldest. */
  events(signal: AbortSignal): AsyncIterable<EventView>;
  stats(input: { spanMs: number }): Promise<StatsView>;
}

export interface ApiContext {
  readonly services: Services;
  /** Throws `forbidden` unless the caller may. */
  demand(action: Action): void;
}
