/** What this node does for other rooms about files. */
import type { Subscription, Wire } from '@torpor/bus';
import { compareFiles, mergeFiles, type NodeId } from '@torpor/contracts';
import type { Telemetry } from '@torpor/telemetry';
import { compareOnHost, type CompareParts } from './compare.ts';
import { mergeOnHost } from './merge.ts';

export async function serveFiles(
  room: CompareParts & { readonly wire: Wire; readonly nodeId: NodeId; readonly telemetry: Telemetry },
): Promise<Subscription> {
  const { wire, nodeId: node, telemetry } = room;
  const served = await Promise.all([
    wire.serve(
      compareFiles,
      (ask, { traceparent }) => {
        const options = { kind: 'server', traceparent, attributes: { instanceId: ask.to.instanceId } } as const;
        return telemetry.span(compareFiles.subject, options, () => compareOnHost(room, ask));
      },
      { node },
    ),
    wire.serve(
      mergeFiles,
      (ask, { traceparent }) => {
        const options = { kind: 'server', traceparent, attributes: { instanceId: ask.here.instanceId } } as const;
        return telemetry.span(mergeFiles.subject, options, () => mergeOnHost(room, ask));
      },
      { node },
    ),
  ]);
  return { close: async () => void (await Promise.all(served.map((one) => one.close()))) };
}
