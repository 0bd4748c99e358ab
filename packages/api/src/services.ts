/**
 * What the router needs done. The gateway gives an implementation bound to one admitted caller and its workspace; whatever rejects with a `Failure`
 * reaches the client with its code.
 */
import type { Action } from '@torpor/policy';
import type {
  AttachVolumeInput,
  BySnapshot,
  ByVolume,
  CallerView,
  CreateKeyInput,
  CreateSandboxInput,
  CreateVolumeInput,
  EventView,
  ForkInput,
  ForksView,
  KeyView,
  ListInput,
  MakeSnapshotInput,
  NewKeyView,
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
  StoreView,
  VolumeView,
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
    resume(input: ResumeInput): Promise<ResumeView>;
    store(which: Named): Promise<StoreView>;
    fork(input: ForkInput): Promise<ForksView>;
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
  readonly nodes: { list(): Promise<NodeView[]> };
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
