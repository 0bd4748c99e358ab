import { moveSandbox, NodeId, type SandboxName } from '@torpor/contracts';
import type { Command } from 'commander';
import { using } from '../client/client.ts';
import { waiting } from '../client/waiting.ts';
import { print } from './sandbox.ts';

export function addMoveCommand(sandbox: Command): void {
  sandbox
    .command('move')
    .description('have it live on another node, asleep; requests wait, and any use wakes it there as it was')
    .argument('<name>')
    .option('--to <node>', 'where to; default where there is room')
    .option('--json', 'for programs')
    .action(async (name: string, options: { to?: string; json?: boolean }) => {
      const to = options.to === undefined ? {} : { to: NodeId.parse(options.to) };
      // The gateway judges names; a branded type here would only repeat it.
      const work = using((client) => client.api.sandboxes.move.mutate({ name: name as SandboxName, ...to }));
      const moved = await waiting(work, `moving ${name}`, moveSandbox.deadlineMs, process.stderr);
      const size = `${(moved.bytes / 2 ** 20).toFixed(1)} MiB in ${(moved.tookMs / 1000).toFixed(1)} s`;
      print(options.json, moved, () => `${name} lives on ${moved.to} now, and not on ${moved.from} (${size})`);
    });
}
