import { leanInstance, type SandboxName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { Command } from 'commander';
import { using } from '../client/client.ts';
import { ms } from '../client/tiers.ts';
import { waiting } from '../client/waiting.ts';
import { print } from './sandbox.ts';

export function addLeanCommand(sandbox: Command): void {
  sandbox
    .command('lean')
    .description("let it sleep with its memory in the host's swap now; any use wakes it as it was")
    .argument('<name>')
    .option('--json', 'for programs')
    .action(async (name: string, options: { json?: boolean }) => {
      // The gateway judges names; a branded type here would only repeat it.
      const work = using((client) => client.api.sandboxes.lean.mutate({ name: name as SandboxName }));
      const lean = await waiting(work, `paging ${name} out`, leanInstance.deadlineMs, process.stderr);
      if (lean.state !== 'lean') {
        const why = lean.reason ?? 'it was used meanwhile';
        throw new Failure('conflict', `${name} is not lean but ${lean.state}: ${why}`);
      }
      print(options.json, lean, () => `${name} is paged out (${ms(lean.tookMs)})`);
    });
}
