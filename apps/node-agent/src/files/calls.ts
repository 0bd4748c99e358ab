/** What this node does for other rooms about files. */
import type { Subscription, Wire } from '@torpor/bus';
import { compareFiles, mergeFiles, type NodeId } from '@torpor/contracts';
import { Turns } from '@torpor/kernel';
import type { Telemetry } from '@torpor/telemetry';
import { compareOnHost, type CompareParts } from './compare.ts';
import { mergeOnHost } from './merge.ts';

/** Walks through trees take memory and disk from those who wake. */
const AT_ONCE = 2;

export async function serveFiles(
  room: CompareParts & { readonly wire: Wire; readonly nodeId: NodeId; readonly telemetry: Telemetry },
): Promise<Subscription> {
  const { wire, nodeId: node, telemetry } = room;
  const turns = new Turns(AT_ONCE);
  const served = await Promise.all([
    wire.serve(
      compareFiles,
      (ask, { traceparent, signal }) => {
        const options = { kind: 'server', traceparent, attributes: { instanceId: ask.to.instanceId } } as const;
        const compared = () => turns.run(() => compareOnHost(room, ask), signal);
        return telemetry.span(compareFiles.subject, options, compared);
      },
      { node },
    ),
    wire.serve(
      mergeFiles,
      (ask, { traceparent, signal }) => {
        const options = { kind: 'server', traceparent, attributes: { instanceId: ask.here.instanceId } } as const;
        const merged = () => turns.run(() => mergeOnHost(room, ask), signal);
        return telemetry.span(mergeFiles.subject, options, merged);
      },
      { node },
    ),
  ]);
  return { close: async () => void (await Promise.all(served.map((one) => one.close()))) };
}
