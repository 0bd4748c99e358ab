/** Torpor's own API: what the CLI, the console and `packages/sdk` speak. Each procedure says which action it takes. */
import { Failure } from '@torpor/kernel';
import type { Action } from '@torpor/policy';
import { initTRPC } from '@trpc/server';
import { z } from 'zod';
import { toTrpcError, viewOf } from './failures.ts';
import type { ApiContext } from './services.ts';
import {
  AttachVolumeInput,
  ByName,
  ByNode,
  AnySnapshot,
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
  RevokeKeyInput,
  SandboxPageView,
  SandboxView,
  SnapshotView,
  SnapshotVolumeInput,
  StateView,
  StatsInput,
  StatsView,
  DeepenView,
  UpdateSandboxInput,
  VolumeView,
  WorkspaceBudgetInput,
  WorkspaceView,
} from './shapes.ts';

const t = initTRPC.context<ApiContext>().create({
  // Event streams say that they live, and end when the client is gone.
  sse: { ping: { enabled: true, intervalMs: 15_000 } },
  errorFormatter: ({ shape, error }) => {
    const failure = viewOf(error);
    const { stack: _, ...data } = shape.data;
    return { ...shape, message: failure.message, data: { ...data, failure } };
  },
});

/** A procedure for callers who may do this. */
function taking(action: Action) {
  return t.procedure.use(async ({ ctx, next }) => {
    try {
      ctx.demand(action);
    } catch (error) {
      throw error instanceof Failure ? toTrpcError(error) : error;
    }
    const result = await next();
    if (!result.ok && result.error.cause instanceof Failure) throw toTrpcError(result.error.cause);
    return result;
  });
}

export const apiRouter = t.router({
  whoami: taking('workspaces:read')
    .output(CallerView)
    .query(({ ctx }) => ctx.services.caller),
  sandboxes: t.router({
    create: taking('sandboxes:write')
      .input(CreateSandboxInput)
      .output(SandboxView)
      .mutation(({ ctx, input }) => ctx.services.sandboxes.create(input)),
    get: taking('sandboxes:read')
      .input(ByName)
      .output(SandboxView)
      .query(({ ctx, input }) => ctx.services.sandboxes.get(input)),
    list: taking('sandboxes:read')
      .input(ListInput)
      .output(SandboxPageView)
      .query(({ ctx, input }) => ctx.services.sandboxes.list(input)),
    history: taking('sandboxes:read')
      .input(ByName)
      .output(HistoryView)
      .query(({ ctx, input }) => ctx.services.sandboxes.history(input)),
    update: taking('sandboxes:write')
      .input(UpdateSandboxInput)
      .output(SandboxView)
      .mutation(({ ctx, input }) => ctx.services.sandboxes.update(input)),
    delete: taking('sandboxes:write')
      .input(DeleteSandboxInput)
      .output(SandboxView)
      .mutation(({ ctx, input }) => ctx.services.sandboxes.delete(input)),
    pause: taking('sandboxes:use')
      .input(ByName)
      .output(StateView)
      .mutation(({ ctx, input }) => ctx.services.sandboxes.pause(input)),
    resume: taking('sandboxes:use')
      .input(ResumeInput)
      .output(ResumeView)
      .mutation(({ ctx, input }) => ctx.services.sandboxes.resume(input)),
    lean: taking('sandboxes:use')
      .input(ByName)
      .output(DeepenView)
      .mutation(({ ctx, input }) => ctx.services.sandboxes.lean(input)),
    store: taking('sandboxes:use')
      .input(ByName)
      .output(DeepenView)
      .mutation(({ ctx, input }) => ctx.services.sandboxes.store(input)),
    fork: taking('sandboxes:write')
      .input(ForkInput)
      .output(ForksView)
      .mutation(({ ctx, input }) => ctx.services.sandboxes.fork(input)),
    move: taking('nodes:write')
      .input(MoveInput)
      .output(MovedView)
      .mutation(({ ctx, input }) => ctx.services.sandboxes.move(input)),
  }),
  receipts: t.router({
    list: taking('sandboxes:read')
      .input(ByName)
      .output(ReceiptsView)
      .query(({ ctx, input }) => ctx.services.receipts.list(input)),
    key: taking('sandboxes:read')
      .input(ByNode)
      .output(ReceiptKeyView)
      .query(({ ctx, input }) => ctx.services.receipts.key(input)),
  }),
  snapshots: t.router({
    create: taking('sandboxes:write')
      .input(MakeSnapshotInput)
      .output(SnapshotView)
      .mutation(({ ctx, input }) => ctx.services.snapshots.create(input)),
    list: taking('sandboxes:read')
      .input(ListSnapshotsInput)
      .output(z.array(SnapshotView))
      .query(({ ctx, input }) => ctx.services.snapshots.list(input)),
    restore: taking('sandboxes:write')
      .input(BySnapshot)
      .output(RestoredView)
      .mutation(({ ctx, input }) => ctx.services.snapshots.restore(input)),
    delete: taking('sandboxes:write')
      .input(AnySnapshot)
      .output(SnapshotView)
      .mutation(({ ctx, input }) => ctx.services.snapshots.delete(input)),
  }),
  files: t.router({
    diff: taking('sandboxes:use')
      .input(DiffInput)
      .output(DiffView)
      .mutation(({ ctx, input }) => ctx.services.files.diff(input)),
    merge: taking('sandboxes:write')
      .input(MergeInput)
      .output(MergeView)
      .mutation(({ ctx, input }) => ctx.services.files.merge(input)),
  }),
  volumes: t.router({
    list: taking('volumes:read')
      .output(z.array(VolumeView))
      .query(({ ctx }) => ctx.services.volumes.list()),
    get: taking('volumes:read')
      .input(ByVolume)
      .output(VolumeView)
      .query(({ ctx, input }) => ctx.services.volumes.get(input)),
    create: taking('volumes:write')
      .input(CreateVolumeInput)
      .output(VolumeView)
      .mutation(({ ctx, input }) => ctx.services.volumes.create(input)),
    snapshot: taking('volumes:write')
      .input(SnapshotVolumeInput)
      .output(VolumeView)
      .mutation(({ ctx, input }) => ctx.services.volumes.snapshot(input)),
    resize: taking('volumes:write')
      .input(ResizeVolumeInput)
      .output(VolumeView)
      .mutation(({ ctx, input }) => ctx.services.volumes.resize(input)),
    attach: taking('volumes:write')
      .input(AttachVolumeInput)
      .output(VolumeView)
      .mutation(({ ctx, input }) => ctx.services.volumes.attach(input)),
    detach: taking('volumes:write')
      .input(ByVolume)
      .output(VolumeView)
      .mutation(({ ctx, input }) => ctx.services.volumes.detach(input)),
    delete: taking('volumes:write')
      .input(ByVolume)
      .output(VolumeView)
      .mutation(({ ctx, input }) => ctx.services.volumes.delete(input)),
  }),
  keys: t.router({
    create: taking('keys:write')
      .input(CreateKeyInput)
      .output(NewKeyView)
      .mutation(({ ctx, input }) => ctx.services.keys.create(input)),
    list: taking('keys:read')
      .output(z.array(KeyView))
      .query(({ ctx }) => ctx.services.keys.list()),
    revoke: taking('keys:write')
      .input(RevokeKeyInput)
      .output(KeyView)
      .mutation(({ ctx, input }) => ctx.services.keys.revoke(input)),
  }),
  nodes: t.router({
    list: taking('nodes:read')
      .output(z.array(NodeView))
      .query(({ ctx }) => ctx.services.nodes.list()),
    get: taking('nodes:read')
      .input(ByNode)
      .output(NodeDetailView)
      .query(({ ctx, input }) => ctx.services.nodes.get(input)),
    drain: taking('nodes:write')
      .input(ByNode)
      .output(NodeDetailView)
      .mutation(({ ctx, input }) => ctx.services.nodes.drain(input)),
    undrain: taking('nodes:write')
      .input(ByNode)
      .output(NodeDetailView)
      .mutation(({ ctx, input }) => ctx.services.nodes.undrain(input)),
  }),
  workspaces: t.router({
    list: taking('workspaces:read')
      .output(z.array(WorkspaceView))
      .query(({ ctx }) => ctx.services.workspaces.list()),
    setWakeBudget: taking('workspaces:write')
      .input(WorkspaceBudgetInput)
      .output(WorkspaceView)
      .mutation(({ ctx, input }) => ctx.services.workspaces.setWakeBudget(input)),
  }),
  events: t.router({
    watch: taking('events:read').subscription(async function* ({ ctx, signal }) {
      const until = signal ?? new AbortController().signal;
      for await (const event of ctx.services.events(until)) yield EventView.parse(event);
    }),
  }),
  stats: taking('stats:read')
    .input(StatsInput)
    .output(StatsView)
    .query(({ ctx, input }) => ctx.services.stats(input)),
});

export type ApiRouter = typeof apiRouter;
