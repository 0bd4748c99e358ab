/** What this node does for other rooms: the calls of packages/contracts, in terms of the standby engine. */
import type { Subscription, Wire } from '@torpor/bus';
import {
  describeInstance,
  pauseInstance,
  resumeInstance,
  setInstancePolicy,
  startInstance,
  stopInstance,
  type InstanceReport,
  type NodeId,
} from '@torpor/contracts';
import type { Clock } from '@torpor/kernel';
import type { InstanceDriver } from '@torpor/runtime';
import type { Instance } from './standby/instance.ts';
import type { Standby } from './standby/standby.ts';

export async function serveCalls(room: {
  wire: Wire;
  clock: Clock;
  nodeId: NodeId;
  standby: Standby;
  driver: InstanceDriver;
}): Promise<Subscription> {
  const { wire, clock, standby, driver } = room;
  const node = { node: room.nodeId };

  async function timed(instance: Instance, work: Promise<void>) {
    const since = clock.monotonicMs();
    await work;
    return { state: instance.state, tookMs: clock.monotonicMs() - since };
  }

  const served = await Promise.all([
    wire.serve(startInstance, async (ask) => ({ ...(await standby.start(ask)), isolation: driver.isolation }), node),
    wire.serve(
      stopInstance,
      async ({ instanceId, generation, reason }) => ({ existed: await standby.stop(instanceId, generation, reason) }),
      node,
    ),
    wire.serve(
      setInstancePolicy,
      async ({ instanceId, generation, idle }) => {
        await standby.at(instanceId, generation).setPolicy(idle);
        return {};
      },
      node,
    ),
    wire.serve(
      pauseInstance,
      async ({ instanceId, generation }) => {
        const instance = standby.at(instanceId, generation);
        return await timed(instance, instance.pause());
      },
      node,
    ),
    wire.serve(
      resumeInstance,
      async ({ instanceId, generation }, { signal }) => {
        const instance = standby.at(instanceId, generation);
        return await timed(instance, instance.wake(signal));
      },
      node,
    ),
    wire.serve(
      describeInstance,
      async ({ instanceId }) => {
        const instance = standby.find(instanceId);
        return instance ? { instance: await described(driver, instance) } : {};
      },
      node,
    ),
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
