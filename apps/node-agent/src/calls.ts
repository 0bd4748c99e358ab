/** What this node does for other rooms: the calls of packages/contracts, in terms of the standby engine. */
import type { CallContext, Subscription, Wire } from '@torpor/bus';
import {
  deleteSnapshot,
  describeInstance,
  isAsleep,
  listReceipts,
  listSnapshots,
  makeSnapshot,
  pauseInstance,
  receiptKey,
  restoreSnapshot,
  resumeInstance,
  setInstancePolicy,
  startInstance,
  stopInstance,
  storeInstance,
  type Call,
  type InstanceReport,
  type NodeId,
} from '@torpor/contracts';
import type { Clock } from '@torpor/kernel';
import type { InstanceDriver } from '@torpor/runtime';
import type { Telemetry } from '@torpor/telemetry';
import type { Receipts } from './receipts/receipts.ts';
import { asSnapshot, snapshotsOf } from './standby/snapshot-report.ts';
import type { Instance } from './standby/instance.ts';
import type { Standby } from './standby/standby.ts';

export async function serveCalls(room: {
  wire: Wire;
  clock: Clock;
  nodeId: NodeId;
  standby: Standby;
  driver: InstanceDriver;
  receipts: Receipts;
  telemetry: Telemetry;
}): Promise<Subscription> {
  const { wire, clock, standby, driver, receipts, telemetry } = room;
  const node = { node: room.nodeId };

  /** Goes on with the trace that the asking room began. */
  function serve<Request extends { instanceId: string }, Reply>(
    call: Call<Request, Reply>,
    handler: (body: Request, context: CallContext) => Promise<Reply>,
  ): Promise<Subscription> {
    const traced = (body: Request, context: CallContext) => {
      const { traceparent } = context;
      const options = { kind: 'server', traceparent, attributes: { instanceId: body.instanceId } } as const;
      return telemetry.span(call.subject, options, () => handler(body, context));
    };
    return wire.serve(call, traced, node);
  }

  async function timed(instance: Instance, work: Promise<void>) {
    const since = clock.monotonicMs();
    await work;
    return { state: instance.state, tookMs: clock.monotonicMs() - since };
  }

  const served = await Promise.all([
    serve(startInstance, async (ask, { signal }) => ({
      ...(await standby.start(ask, signal)),
      isolation: driver.isolation,
    })),
    serve(stopInstance, async ({ instanceId, generation, reason }) => ({
      existed: await standby.stop(instanceId, generation, reason),
    })),
    serve(setInstancePolicy, async ({ instanceId, generation, idle }) => {
      await standby.at(instanceId, generation).setPolicy(idle);
      return {};
    }),
    serve(pauseInstance, async ({ instanceId, generation }) => {
      const instance = standby.at(instanceId, generation);
      return await timed(instance, instance.pause());
    }),
    serve(resumeInstance, async ({ instanceId, generation, filesOnly = false }, { signal }) => {
      const instance = standby.at(instanceId, generation);
      if (filesOnly) await instance.giveUpMemory();
      const slept = isAsleep(instance.state);
      const done = await timed(instance, instance.wake(signal));
      const lost = slept ? instance.past.lastWakeLost?.reason : undefined;
      return { ...done, ...(lost === undefined ? {} : { lost }) };
    }),
    serve(storeInstance, async ({ instanceId, generation }) => {
      const instance = standby.at(instanceId, generation);
      const done = await timed(instance, instance.store('asked'));
      const { reason } = instance;
      return { ...done, ...(done.state === 'stored' || reason === undefined ? {} : { reason }) };
    }),
    serve(listReceipts, async ({ instanceId, generation }) => {
      const instance = standby.at(instanceId, generation);
      if (instance.state === 'running') await instance.settled; // the one of the wake just now
      return { receipts: instance.body ? await receipts.of(instance.body.hostId) : [] };
    }),
    wire.serve(receiptKey, async () => ({ key: receipts.publicKey }), node),
    serve(makeSnapshot, async ({ instanceId, generation, name, because, by }) => {
      const note = { because, ...(name === undefined ? {} : { name }), ...(by === undefined ? {} : { by }) };
      return { snapshot: asSnapshot(await standby.at(instanceId, generation).snapshots.make(note)) };
    }),
    serve(listSnapshots, async ({ instanceId, generation }) => ({
      snapshots: snapshotsOf(standby.at(instanceId, generation).shelf),
    })),
    serve(restoreSnapshot, async ({ instanceId, generation, snapshot }, { signal }) => {
      const since = clock.monotonicMs();
      const { to, before } = await standby.at(instanceId, generation).snapshots.rewind(snapshot, signal);
      const tookMs = clock.monotonicMs() - since;
      return { snapshot: asSnapshot(to), ...(before ? { before: asSnapshot(before) } : {}), tookMs };
    }),
    serve(deleteSnapshot, async ({ instanceId, generation, snapshot }) => ({
      snapshot: asSnapshot(await standby.at(instanceId, generation).snapshots.remove(snapshot)),
    })),
    serve(describeInstance, async ({ instanceId }) => {
      const instance = standby.find(instanceId);
      return instance ? { instance: await described(driver, instance) } : {};
    }),
  ]);
  return { close: async () => void (await Promise.all(served.map((one) => one.close()))) };
}

/** With its memory, when the host can say. */
async function described(driver: InstanceDriver, instance: Instance): Promise<InstanceReport> {
  const report = instance.report();
  if (!report.hostId) return report;
  const memoryMib = (await driver.usage([report.hostId]).catch(() => undefined))?.get(report.hostId)?.memoryMib;
  return memoryMib === undefined ? report : { ...report, memoryMib };
}
