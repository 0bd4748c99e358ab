import type { Wire } from '@torpor/bus';
import {
  attachVolume,
  bookUsage,
  createSandbox,
  createVolume,
  deleteSandbox,
  deleteVolume,
  detachVolume,
  drainNode,
  drainProgress,
  dropSnapshot,
  forkSandbox,
  heartbeat,
  moveSandbox,
  resizeVolume,
  restoreSandbox,
  snapshotSandbox,
  updateSandbox,
} from '@torpor/contracts';
import { Failure, Lifetime, type Chance, type Clock } from '@torpor/kernel';
import type { Store } from '@torpor/store';
import type { Telemetry } from '@torpor/telemetry';
import { endSandbox } from './changes/delete.ts';
import { Endings } from './changes/endings.ts';
import { restoreOf } from './changes/restore.ts';
import { dropOf, snapshotOf } from './changes/snapshots.ts';
import { changeSandbox } from './changes/update.ts';
import { Births } from './creation/births.ts';
import { Creation } from './creation/create.ts';
import { forkOf } from './creation/fork.ts';
import { schedulerEvents } from './events.ts';
import { ExpiryWatch } from './expiry/expiry-watch.ts';
import { FleetView } from './fleet/fleet-view.ts';
import { Heartbeats } from './fleet/heartbeat.ts';
import { Drains } from './moves/drain.ts';
import { Mover } from './moves/mover.ts';
import { TIMES, type Parts, type Times } from './parts.ts';
import { Repair } from './repair/repair.ts';
import { Retention } from './retention/retention.ts';
import { RouteHints } from './routes.ts';
import { VolumeMetering } from './volumes/metering.ts';
import { VolumeSettling } from './volumes/settling.ts';
import { Volumes } from './volumes/volumes.ts';

export interface SchedulerOptions {
  readonly store: Store;
  readonly wire: Wire;
  readonly clock: Clock;
  readonly chance: Chance;
  readonly telemetry: Telemetry;
  readonly times?: Partial<Times>;
}

export interface Scheduler {
  close(): Promise<void>;
}

/** Puts the room together and opens it. Store and wire stay the caller's to close. */
export async function openScheduler(options: SchedulerOptions): Promise<Scheduler> {
  const lifetime = new Lifetime();
  const { store, wire, telemetry } = options;
  const events = schedulerEvents(telemetry);
  const parts: Parts = { ...options, events, times: { ...TIMES, ...options.times }, closing: lifetime.signal };
  const fleet = new FleetView();
  await fleet.refresh(store);

  const hints = new RouteHints(wire, events);
  const endings = new Endings(parts, fleet);
  const births = new Births(parts, fleet, endings);
  const volumes = new Volumes(parts, fleet);
  const creation = new Creation(parts, { fleet, births, endings, hints, volumes });
  const heartbeats = new Heartbeats(parts, fleet, endings);
  const expiry = new ExpiryWatch(parts, { endings, hints });
  const mover = new Mover(parts, { fleet, births, endings, hints });
  const drains = new Drains(parts, { fleet, mover });
  const settling = new VolumeSettling(parts, { fleet, volumes });
  const repair = new Repair(parts, { fleet, creation, endings, mover, settling });
  const retention = new Retention(parts);

  const metering = new VolumeMetering(parts);
  const loops = Promise.all([expiry.run(), repair.run(), retention.run(), drains.run(), metering.run()]);
  lifetime.own('loops', () => loops);
  const served = await Promise.all([
    wire.serve(createSandbox, async (ask, { traceparent }) => {
      const answer = await creation.create(ask, traceparent);
      if (Object.keys(ask.expiry).length > 0) expiry.poke();
      return answer;
    }),
    wire.serve(forkSandbox, (ask, { traceparent }) =>
      telemetry.span('scheduler.fork', { traceparent, kind: 'server' }, async (span) => {
        const answer = await forkOf(parts, { births, creation, fleet, hints }, ask, span.traceparent);
        if (Object.keys(answer.sandbox.expiry).length > 0) expiry.poke();
        return answer;
      }),
    ),
    wire.serve(snapshotSandbox, (ask, { traceparent }) =>
      telemetry.span('scheduler.snapshot', { traceparent, kind: 'server' }, async (span) => ({
        snapshot: await snapshotOf(parts, ask, span.traceparent),
      })),
    ),
    wire.serve(dropSnapshot, (ask, { traceparent }) =>
      telemetry.span('scheduler.snapshot-drop', { traceparent, kind: 'server' }, async (span) => ({
        snapshot: await dropOf(parts, ask, span.traceparent),
      })),
    ),
    wire.serve(restoreSandbox, (ask, { traceparent }) =>
      telemetry.span('scheduler.restore', { traceparent, kind: 'server' }, (span) =>
        restoreOf(parts, { fleet, hints }, ask, span.traceparent),
      ),
    ),
    wire.serve(updateSandbox, (ask, { traceparent }) =>
      telemetry.span('scheduler.update', { traceparent, kind: 'server' }, async (span) => {
        const sandbox = await changeSandbox(parts, { births, creation, endings, hints }, ask, span.traceparent);
        if (ask.expiry) expiry.poke();
        return { sandbox };
      }),
    ),
    wire.serve(deleteSandbox, (ask, { traceparent }) =>
      telemetry.span('scheduler.delete', { traceparent, kind: 'server' }, async () => ({
        sandbox: await endSandbox(parts, { endings, hints }, ask),
      })),
    ),
    wire.serve(moveSandbox, ({ workspace, name, to }, { traceparent }) =>
      telemetry.span('scheduler.move', { traceparent, kind: 'server' }, async () => {
        const sandbox = await store.wanted.living(workspace, name);
        if (!sandbox) throw new Failure('not_found', `there is no sandbox "${name}" in workspace "${workspace}"`);
        return await mover.move(sandbox, to, 'asked');
      }),
    ),
    wire.serve(drainNode, async ({ nodeId, drain }) => {
      await drains.set(nodeId, drain);
      return {};
    }),
    wire.serve(drainProgress, ({ nodeId }) => drains.progress(nodeId)),
    wire.serve(createVolume, async (ask) => ({ volume: await volumes.create(ask) })),
    wire.serve(resizeVolume, async (ask) => ({ volume: await volumes.resize(ask) })),
    wire.serve(deleteVolume, async (ask) => ({ volume: await volumes.delete(ask) })),
    wire.serve(attachVolume, async (ask) => ({ volume: await volumes.attach(ask) })),
    wire.serve(detachVolume, async (ask) => ({ volume: await volumes.detach(ask) })),
    wire.serve(heartbeat, (beat) => heartbeats.hear(beat)),
    wire.serve(bookUsage, async ({ nodeId, intervals }) => {
      const { booked, refused } = await store.usage.book(nodeId, intervals);
      events.booked(booked);
      if (refused.length > 0) events.usageRefused(nodeId, refused);
      return { booked };
    }),
  ]);
  lifetime.own('calls', () => Promise.all(served.map((subscription) => subscription.close())));
  return { close: () => lifetime.close() };
}
