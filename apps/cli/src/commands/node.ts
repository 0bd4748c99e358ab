import { Failure } from '@torpor/kernel';
import type { Command } from 'commander';
import { nodeDetails } from '../client/node-details.ts';
import { ago, table } from '../client/table.ts';
import { using } from '../client/client.ts';
import { print } from './sandbox.ts';

export function addNodeCommands(torpor: Command): void {
  const node = torpor.command('node').description('the nodes: isolation, capacity, pools, swap');
  node
    .command('get')
    .description('all that is known of one')
    .argument('<id>')
    .option('--json', 'for programs')
    .action(async (id: string, options: { json?: boolean }) => {
      const nodes = await using((client) => client.api.nodes.list.query());
      const found = nodes.find((one) => one.id === id);
      if (!found) {
        const known = nodes.map((one) => one.id).join(', ');
        throw new Failure('not_found', `there is no node "${id}"; expected one of: ${known || 'none is known yet'}`);
      }
      print(options.json, found, () => nodeDetails(found, Date.now()));
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
        `${ago(node.heardAtMs, now)} ago`,
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
