import { storeInstance, type SandboxName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { Command } from 'commander';
import { using } from '../client/client.ts';
import { ms } from '../client/tiers.ts';
import { waiting } from '../client/waiting.ts';
import { print } from './sandbox.ts';

export function addStoreCommand(sandbox: Command): void {
  sandbox
    .command('store')
    .description('let it sleep on disk now: no RAM, survives a reboot; any use wakes it as it was')
    .argument('<name>')
    .option('--json', 'for programs')
    .action(async (name: string, options: { json?: boolean }) => {
      // The gateway judges names; a branded type here would only repeat it.
      const work = using((client) => client.api.sandboxes.store.mutate({ name: name as SandboxName }));
      const stored = await waiting(work, `storing ${name}`, storeInstance.deadlineMs, process.stderr);
      if (stored.state !== 'stored') {
        const why = stored.reason ?? 'it was used meanwhile';
        throw new Failure('conflict', `${name} is not stored but ${stored.state}: ${why}`);
      }
      print(options.json, stored, () => `${name} is stored (${ms(stored.tookMs)})`);
    });
}
