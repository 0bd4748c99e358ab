import type { SandboxName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import type { Command } from 'commander';
import { readFile } from 'node:fs/promises';
import { using } from '../client/client.ts';
import { inWords, isGood, isSignedBy, LOST_EXIT_CODE, opened, readReceipts } from '../client/receipts.ts';
import { print } from './sandbox.ts';

export function addReceiptCommands(torpor: Command): void {
  const receipt = torpor
    .command('receipt')
    .description('what each wake from disk brought back, as checked before anybody was let in');
  receipt
    .command('list')
    .alias('ls')
    .description(`the last wakes of a sandbox; exit code ${LOST_EXIT_CODE} when the latest lost something`)
    .argument('<name>')
    .option('--json', 'for programs, and for "receipt verify"')
    .action(async (name: string, options: { json?: boolean }) => {
      // The gateway judges names; a branded type here would only repeat it.
      const all = await using((client) => client.api.receipts.list.query({ name: name as SandboxName }));
      const receipts = all.map(opened);
      const words = () => receipts.map((one) => inWords(one, Date.now())).join('\n');
      print(options.json, all, () => words() || `${name} has not woken from disk yet`);
      const latest = receipts.at(-1);
      if (latest && !isGood(latest)) process.exitCode = LOST_EXIT_CODE;
    });
  receipt
    .command('verify')
    .description(`whether a node signed it; exit code ${LOST_EXIT_CODE} when it did and the receipt tells of a loss`)
    .argument('<file>', 'what "receipt list --json" printed, or one of it')
    .option('--key <base64>', "the node's public key, to ask no stack for it")
    .action(async (file: string, options: { key?: string }) => {
      for (const signed of readReceipts(await readFile(file, 'utf8'))) {
        const told = opened(signed);
        const key = options.key ?? (await keyOf(told.nodeId));
        if (!isSignedBy(signed, key)) {
          throw new Failure('unprocessable', `the node "${told.nodeId}" did not sign this receipt of ${told.name}`);
        }
        process.stdout.write(`signed by the node "${told.nodeId}": ${inWords(told, Date.now())}\n`);
        if (!isGood(told)) process.exitCode = LOST_EXIT_CODE;
      }
    });
}

async function keyOf(nodeId: ReturnType<typeof opened>['nodeId']): Promise<string> {
  const { key } = await using((client) => client.api.receipts.key.query({ nodeId }));
  return key;
}
