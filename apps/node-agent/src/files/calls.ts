/** What this node does for other rooms about files. */
import type { Subscription, Wire } from '@torpor/bus';
import { compareFiles, type NodeId } from '@torpor/contracts';
import type { Telemetry } from '@torpor/telemetry';
import { compareOnHost, type CompareParts } from './compare.ts';

export async function serveFiles(
  room: CompareParts & { readonly wire: Wire; readonly nodeId: NodeId; readonly telemetry: Telemetry },
): Promise<Subscription> {
  const { wire, nodeId: node, telemetry } = room;
  return await wire.serve(
    compareFiles,
    (ask, { traceparent }) => {
      const { instanceId } = ask.to;
      const options = { kind: 'server', traceparent, attributes: { instanceId } } as const;
      return telemetry.span(compareFiles.subject, options, () => compareOnHost(room, ask));
    },
    { node },
  );
}
