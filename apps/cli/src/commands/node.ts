import type { NodeDetailView } from '@torpor/api';
import { NodeId } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { Command } from 'commander';
import { nodeDetails, staysOf } from '../client/node-details.ts';
import { setTimeout as after } from 'node:timers/promises';
import { ago, table } from '../client/table.ts';
import { using } from '../client/client.ts';
import { print } from './sandbox.ts';

export function addNodeCommands(torpor: Command): void {
  const node = torpor.command('node').description('the nodes: isolation, capacity, pools, swap; emptying one');
  node
    .command('get')
    .description('all that is known of one, and how far it is emptied')
    .argument('<id>')
    .option('--json', 'for programs')
    .action(async (id: string, options: { json?: boolean }) => {
      const found = await using((client) => client.api.nodes.get.query({ nodeId: asNode(id) }));
      print(options.json, found, () => told(found));
    });
  node
    .command('drain')
    .description('place nothing new there, and move what lives there to other nodes; tells how far it is')
    .argument('<id>')
    .option('--json', 'a line of JSON for each step')
    .option('--no-wait', 'return at once, and leave it going on')
    .action((id: string, options: { json?: boolean; wait: boolean }) => drain(asNode(id), options));
  node
    .command('undrain')
    .description('let new sandboxes be placed there again')
    .argument('<id>')
    .option('--json', 'for programs')
    .action(async (id: string, options: { json?: boolean }) => {
      const found = await using((client) => client.api.nodes.undrain.mutate({ nodeId: asNode(id) }));
      print(options.json, found, () => `${id} takes sandboxes again; ${found.left} live there`);
    });
  node
    .command('list')
    .alias('ls')
    .option('--json', 'for programs')
    .action(async (options: { json?: boolean }) => {
      const nodes = await using((client) => client.api.nodes.list.query());
      const now = Date.now();
      const rows = nodes.map((node) => [
        node.id,
        node.isolation,
        `${node.capacity.memoryFreeMib}/${node.capacity.memoryMib} MiB`,
        `${node.capacity.diskFreeMib} MiB`,
        node.pool.map((pool) => `${pool.template} ${pool.ready}/${pool.target}`).join(', '),
        `${ago(node.heardAtMs, now)} ago${node.drainingSinceMs === undefined ? '' : ', draining'}`,
      ]);
      print(options.json, nodes, () =>
        table(['NODE', 'ISOLATION', 'MEMORY FREE', 'DISK FREE', 'POOL READY', 'HEARD'], rows),
      );
    });
  torpor
    .command('events')
    .description('what happens to sandboxes, as it happens; Ctrl-C ends it')
    .option('--json', 'a line of JSON each')
    .action(async (options: { json?: boolean }) => {
      await using(
        (client) =>
          new Promise<void>((resolve, reject) => {
            client.api.events.watch.subscribe(undefined, {
              onData: (event) =>
                process.stdout.write(
                  options.json
                    ? `${JSON.stringify(event)}\n`
                    : `${new Date(event.atMs).toISOString()}  ${event.name}  ${event.what} (${event.because})\n`,
                ),
              onError: reject,
              onComplete: resolve,
            });
          }),
      );
    });
}

const LOOK_MS = 500;

/** Ends when nothing is left, or with exit code 1 when all that is left would not go. */
async function drain(nodeId: NodeId, { json, wait }: { json?: boolean; wait: boolean }): Promise<void> {
  await using(async (client) => {
    let before = '';
    for (
      let now = await client.api.nodes.drain.mutate({ nodeId });
      ;
      now = await client.api.nodes.get.query({ nodeId })
    ) {
      const { left, moving, troubles, stays } = now;
      const said = `${left} left, ${moving} moving${troubles.length === 0 ? '' : `, ${troubles.length} would not go`}`;
      if (said !== before)
        process.stdout.write(json ? `${JSON.stringify({ left, moving, troubles, stays })}\n` : `${said}\n`);
      before = said;
      const staying = staysOf(now);
      if (left === 0 && staying !== undefined && !json)
        process.stdout.write(`${staying}: they do not travel, and need ${nodeId} as long as somebody wants them\n`);
      if (left === 0 || !wait) return;
      if (moving === 0 && troubles.length >= left) {
        if (!json) process.stdout.write(`${troubleLines(now)}\n`);
        process.exitCode = 1;
        return;
      }
      await after(LOOK_MS);
    }
  });
}

function told(node: NodeDetailView): string {
  const details = nodeDetails(node, Date.now());
  return node.troubles.length === 0 ? details : `${details}\n${troubleLines(node)}`;
}

function troubleLines({ troubles }: NodeDetailView): string {
  return troubles.map(({ workspace, name, reason }) => `${workspace}/${name} stays: ${reason}`).join('\n');
}

function asNode(text: string): NodeId {
  const parsed = NodeId.safeParse(text);
  if (!parsed.success) throw new Failure('bad_request', `"${text}" is no name of a node; "torpor node list" has them`);
  return parsed.data;
}
