/** What this node does for other rooms: the calls of packages/contracts, in terms of the standby engine. */
import type { CallContext, Subscription, Wire } from '@torpor/bus';
import {
  deleteSnapshot,
  describeInstance,
  fetchInstance,
  isAsleep,
  leanInstance,
  leaveInstance,
  listReceipts,
  listSnapshots,
  makeSnapshot,
  nodeFacts,
  pauseInstance,
  receiptKey,
  restoreSnapshot,
  resumeInstance,
  setInstancePolicy,
  startInstance,
  stayInstance,
  stopInstance,
  storeInstance,
  tellHistory,
  type Call,
  type InstanceReport,
  type NodeId,
} from '@torpor/contracts';
import type { Clock } from '@torpor/kernel';
import { publicText, type InstanceDriver } from '@torpor/runtime';
import type { Telemetry } from '@torpor/telemetry';
import type { NodeKey } from './images/node-key.ts';
import type { Journal } from './journal/index.ts';
import type { Origin, ParcelSource } from './moves/carry.ts';
import { journey } from './moves/office.ts';
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
  journal: Journal;
  nodeKey: NodeKey;
  sourceOf(from: Origin): ParcelSource;
  telemetry: Telemetry;
}): Promise<Subscription> {
  const { wire, clock, standby, driver, receipts, journal, nodeKey, sourceOf, telemetry } = room;
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
    serve(stopInstance, async ({ instanceId, generation, reason, keep }) => ({
      existed: await standby.stop(instanceId, generation, reason, keep),
    })),
    serve(setInstancePolicy, async ({ instanceId, generation, ...policy }) => {
      await standby.at(instanceId, generation).setPolicy(policy);
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
    serve(leanInstance, async ({ instanceId, generation }) => {
      const instance = standby.at(instanceId, generation);
      const since = clock.monotonicMs();
      const reason = await instance.lean('asked');
      const done = { state: instance.state, tookMs: clock.monotonicMs() - since };
      return { ...done, ...(done.state === 'lean' || reason === undefined ? {} : { reason }) };
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
    serve(tellHistory, async ({ instanceId, generation }) => {
      const { body } = standby.at(instanceId, generation);
      return { events: body ? await journal.history(body.hostId) : [] };
    }),
    wire.serve(nodeFacts, async () => ({ make: driver.make, key: publicText(nodeKey.travelling()) }), node),
    serve(leaveInstance, async ({ instanceId, generation, to, key, copy: isCopy = false }) => ({
      bytes: await standby.at(instanceId, generation).leave({ nodeId: to, key, isCopy }),
    })),
    serve(stayInstance, async ({ instanceId, generation }) => {
      await standby.stay(instanceId, generation);
      return {};
    }),
    serve(fetchInstance, async ({ instanceId, generation, from: { nodeId: left, url, key, ...from } }, { signal }) => {
      const about = journey(instanceId, from.generation, { from: left, to: room.nodeId });
      const source = sourceOf({ url, instanceId, generation: from.generation });
      return await standby.fetch({ instanceId, generation, source, key, about }, signal);
    }),
    wire.serve(receiptKey, async () => ({ key: receipts.publicKey }), node),
    serve(makeSnapshot, async ({ instanceId, generation, name, because, by }) => {
      const note = { because, ...(name === undefined ? {} : { name }), ...(by === undefined ? {} : { by }) };
      return { snapshot: asSnapshot(await standby.at(instanceId, generation).snapshots.make(note)) };
    }),
    serve(listSnapshots, async ({ instanceId, generation }) => ({
      snapshots: snapshotsOf(standby.shelfOf(instanceId, generation).shelf),
    })),
    serve(restoreSnapshot, async ({ instanceId, generation, snapshot }, { signal }) => {
      const since = clock.monotonicMs();
      const { to, before } = await standby.at(instanceId, generation).snapshots.rewind(snapshot, signal);
      const tookMs = clock.monotonicMs() - since;
      return { snapshot: asSnapshot(to), ...(before ? { before: asSnapshot(before) } : {}), tookMs };
    }),
    serve(deleteSnapshot, async ({ instanceId, generation, snapshot }) => ({
      snapshot: asSnapshot(await standby.removeSnapshot(instanceId, generation, snapshot)),
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
  const usage = (await driver.usage([report.hostId]).catch(() => undefined))?.get(report.hostId);
  const outlook = instance.depth.outlook(usage?.memoryMib);
  return { ...report, outlook, ...(usage ? { memoryMib: usage.memoryMib, swapMib: usage.swapMib } : {}) };
}
