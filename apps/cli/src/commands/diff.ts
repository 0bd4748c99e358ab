/** What changed in the files of sandboxes from one point to another. */
import type { FilePointInput } from '@torpor/api';
import { Failure } from '@torpor/kernel';
import type { Command } from 'commander';
import { changesOf } from '../client/changes.ts';
import { using } from '../client/client.ts';
import { asName, print } from './sandbox.ts';

export function addDiffCommand(torpor: Command): void {
  torpor
    .command('diff')
    .description(
      'what changed in files from one point to another; a point is SANDBOX, as it is now, or SANDBOX@SNAPSHOT, @last or, of a fork, @base; without volumes, /tmp, /run and /dev/shm',
    )
    .argument('<from>', 'alone: a sandbox, from its last snapshot to now, or a point, from there to now')
    .argument('[to]', 'the other point')
    .option('--under <path>', 'only there')
    .option('--json', 'for programs')
    .action(async (from: string, to: string | undefined, options: { under?: string; json?: boolean }) => {
      const ask = { ...pointsOf(from, to), ...(options.under === undefined ? {} : { under: options.under }) };
      const told = await using((client) => client.api.files.diff.mutate(ask));
      print(options.json, told, () => changesOf(told));
    });
}

/** Of one word, what it was against what it is now. */
export function pointsOf(from: string, to: string | undefined): { from: FilePointInput; to: FilePointInput } {
  const first = pointOf(from);
  if (to !== undefined) return { from: first, to: pointOf(to) };
  const { name } = first;
  return { from: first.at === 'now' ? { name, at: 'last' } : first, to: { name, at: 'now' } };
}

function pointOf(text: string): FilePointInput {
  const [name = '', ...rest] = text.split('@');
  const at = rest.join('@');
  if (rest.length === 0) return { name: asName(name), at: 'now' };
  if (at === '') throw new Failure('bad_request', `"${text}": expected a snapshot after the @`);
  if (at === 'now' || at === 'last' || at === 'base') return { name: asName(name), at };
  return { name: asName(name), at: { snapshot: at } };
}
