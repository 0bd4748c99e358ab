/** A fork's files, back into the sandbox that it was forked from. */
import { Failure } from '@torpor/kernel';
import type { Command } from 'commander';
import { mergeOf } from '../client/changes.ts';
import { using } from '../client/client.ts';
import { asName, print } from './sandbox.ts';

interface Options {
  readonly into: string;
  readonly dryRun?: boolean;
  readonly ours?: boolean;
  readonly theirs?: boolean;
  readonly under?: string;
  readonly json?: boolean;
}

/** With conflicts that nothing settles, which is not the command's failure and not its success. */
const CONFLICTS_EXIT_CODE = 3;

export function addMergeCommand(sandbox: Command): void {
  sandbox
    .command('merge')
    .description(
      'bring what a fork has changed in files since it was forked into its parent; with conflicts, nothing is changed',
    )
    .argument('<fork>')
    .requiredOption('--into <parent>', 'the sandbox that it was forked from')
    .option('--dry-run', 'say what would be done')
    .option('--theirs', "take the fork's side where both have changed")
    .option('--ours', 'leave what is there where both have changed')
    .option('--under <path>', 'only there')
    .option('--json', 'for programs')
    .action(async (fork: string, options: Options) => {
      const { into, dryRun = false, ours = false, theirs = false, under } = options;
      if (ours && theirs) throw new Failure('bad_request', 'expected --ours or --theirs, not both');
      const settle = theirs ? ('fork' as const) : ours ? ('here' as const) : undefined;
      const ask = {
        fork: asName(fork),
        into: asName(into),
        dryRun,
        ...(settle === undefined ? {} : { settle }),
        ...(under === undefined ? {} : { under }),
      };
      const told = await using((client) => client.api.files.merge.mutate(ask));
      print(options.json, told, () => mergeOf(told, dryRun));
      if (told.conflicts.length > 0) process.exitCode = CONFLICTS_EXIT_CODE;
    });
}
