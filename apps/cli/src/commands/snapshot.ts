/** Points in a sandbox's life: made, gone back to, forked, told of. */
import type { SnapshotView } from '@torpor/api';
import type { Command } from 'commander';
import { using } from '../client/client.ts';
import { ago, table } from '../client/table.ts';
import { asName, collect, pairs, print, wholeNumber } from './sandbox.ts';

interface Json {
  readonly json?: boolean;
}

export function addSnapshotCommands(torpor: Command): void {
  const snapshot = torpor.command('snapshot').description('keep a sandbox as it is now, and go back there');
  const json = ['--json', 'for programs'] as const;
  snapshot
    .command('create')
    .description(
      'keep its memory, processes and files; it waits for the save alone. Answers when the snapshot was read back',
    )
    .argument('<sandbox>')
    .argument('[snapshot]', 'what to call it')
    .option(...json)
    .action(async (name: string, called: string | undefined, options: Json) => {
      const ask = { name: asName(name), ...(called === undefined ? {} : { snapshot: called }) };
      const made = await using((client) => client.api.snapshots.create.mutate(ask));
      print(options.json, made, () => `${called ?? made.id} holds ${name} as it was${sizeOf(made)}`);
    });
  snapshot
    .command('list')
    .alias('ls')
    .description('the snapshots of a sandbox, the oldest first')
    .argument('<sandbox>')
    .option(...json)
    .action(async (name: string, options: Json) => {
      const items = await using((client) => client.api.snapshots.list.query({ name: asName(name) }));
      print(options.json, items, () => (items.length === 0 ? `${name} has no snapshots.` : listing(items, Date.now())));
    });
  snapshot
    .command('restore')
    .description('make the sandbox what it was then; what it is now is kept as another snapshot')
    .argument('<sandbox>')
    .argument('<snapshot>', 'its name or id')
    .option(...json)
    .action(async (name: string, which: string, options: Json) => {
      const ask = { name: asName(name), snapshot: which };
      const done = await using((client) => client.api.snapshots.restore.mutate(ask));
      const kept = done.before ? `; before that it was ${done.before.id}` : '';
      print(options.json, done, () => `${name} is as it was in ${which} (${done.tookMs.toFixed(0)} ms)${kept}`);
    });
  snapshot
    .command('delete')
    .alias('rm')
    .description('let it go; its space is free')
    .argument('<sandbox>')
    .argument('<snapshot...>', 'names or ids')
    .option(...json)
    .action(async (name: string, which: string[], options: Json) => {
      for (const one of which) {
        const gone = await using((client) => client.api.snapshots.delete.mutate({ name: asName(name), snapshot: one }));
        print(options.json, gone, () => `${one} is gone`);
      }
    });
  torpor
    .command('fork')
    .description('more sandboxes with the memory, processes and files of one; it waits for a save alone')
    .argument('<name>')
    .option('--count <n>', 'how many', wholeNumber, 1)
    .option('--as <name>', 'name of the fork; of several, what their names begin with')
    .option('--snapshot <snapshot>', 'as it was then, by name or id')
    .option('--env <NAME=value>', "added to the parent's, for what is started from now on; repeatable", collect)
    .option(...json)
    .action(async (name: string, options: ForkOptions) => {
      const ask = {
        name: asName(name),
        count: options.count,
        env: pairs('--env', options.env),
        ...(options.as === undefined ? {} : { as: asName(options.as) }),
        ...(options.snapshot === undefined ? {} : { snapshot: options.snapshot }),
      };
      const { forks, failed, ...rest } = await using((client) => client.api.sandboxes.fork.mutate(ask));
      print(options.json, { forks, failed, ...rest }, () =>
        [
          ...forks.map((fork) => `${fork.name} is ready: ${fork.url}`),
          ...failed.map((one) => `${one.name ?? 'one'} could not be made: ${one.message}`),
        ].join('\n'),
      );
      if (failed.length > 0) process.exitCode = 1;
    });
  torpor
    .command('history')
    .description('where a sandbox came from, and the points that it can go back to')
    .argument('<name>')
    .option(...json)
    .action(async (name: string, options: Json) => {
      const { view, items } = await using(async (client) => ({
        view: await client.api.sandboxes.get.query({ name: asName(name) }),
        items: await client.api.snapshots.list.query({ name: asName(name) }),
      }));
      const origin = view.origin ? `forked from ${view.origin.name} (${view.origin.snapshot})` : 'created';
      const now = Date.now();
      print(options.json, { createdAtMs: view.createdAtMs, origin: view.origin, snapshots: items }, () =>
        [`${ago(view.createdAtMs, now)} ago: ${origin}`, ...items.map((one) => told(one, now))].join('\n'),
      );
    });
}

interface ForkOptions extends Json {
  readonly count: number;
  readonly as?: string;
  readonly snapshot?: string;
  readonly env?: string[];
}

function listing(items: readonly SnapshotView[], nowMs: number): string {
  const rows = items.map((one) => [
    one.id,
    one.name ?? '',
    one.state,
    WHY[one.because],
    one.bytes === undefined ? '' : mib(one.bytes),
    ago(one.atMs, nowMs),
  ]);
  return table(['ID', 'NAME', 'STATE', 'WHY', 'SIZE', 'AGE'], rows);
}

const WHY = { asked: 'asked for', fork: 'for a fork', restore: 'before a restore', death: 'before it died' } as const;

function told(one: SnapshotView, nowMs: number): string {
  const what = one.name === undefined ? one.id : `"${one.name}" (${one.id})`;
  const state = one.state === 'ready' ? '' : `, ${one.state}${one.reason === undefined ? '' : `: ${one.reason}`}`;
  return `${ago(one.atMs, nowMs)} ago: snapshot ${what}, ${WHY[one.because]}${sizeOf(one)}${state}`;
}

function sizeOf({ bytes }: SnapshotView): string {
  return bytes === undefined ? '' : `, ${mib(bytes)}`;
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
