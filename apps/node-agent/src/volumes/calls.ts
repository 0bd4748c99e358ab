/** What this node does with volumes for other rooms. */
import type { CallContext, Subscription, Wire } from '@torpor/bus';
import {
  describeVolumes,
  dropVolume,
  giveVolume,
  holdVolume,
  takeVolume,
  type Call,
  type NodeId,
} from '@torpor/contracts';
import type { Telemetry } from '@torpor/telemetry';
import type { Standby } from '../standby/standby.ts';
import type { Volumes } from './volumes.ts';

export async function serveVolumes(room: {
  wire: Wire;
  nodeId: NodeId;
  standby: Standby;
  volumes: Volumes;
  telemetry: Telemetry;
}): Promise<Subscription> {
  const { wire, standby, volumes, telemetry } = room;
  const node = { node: room.nodeId };

  function serve<Request, Reply>(call: Call<Request, Reply>, handler: (body: Request) => Promise<Reply>) {
    const traced = (body: Request, { traceparent }: CallContext) =>
      telemetry.span(call.subject, { traceparent, kind: 'server' }, () => handler(body));
    return wire.serve(call, traced, node);
  }

  const served = await Promise.all([
    serve(holdVolume, async (ask) => {
      await volumes.hold(ask);
      return {};
    }),
    serve(dropVolume, async ({ volume, generation }) => {
      await volumes.drop(volume, generation);
      return {};
    }),
    serve(giveVolume, async ({ instanceId, instanceGeneration, volume }) => {
      await standby.give(standby.at(instanceId, instanceGeneration), volume);
      return {};
    }),
    serve(takeVolume, async ({ volume, generation }) => {
      await standby.take(volume, generation);
      return {};
    }),
    serve(describeVolumes, async ({ volumes: asked }) => {
      const found = await volumes.usage(asked);
      return { volumes: [...found].map(([volume, usage]) => ({ volume, ...usage })) };
    }),
  ]);
  return { close: async () => void (await Promise.all(served.map((one) => one.close()))) };
}
