/** Points in a sandbox's life: made, gone back to, forked, told of. */
import type { SnapshotView } from '@torpor/api';
import { Failure } from '@torpor/kernel';
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
    .description('the snapshots of a sandbox, the oldest first; without a name, all that somebody asked for')
    .argument('[sandbox]')
    .option(...json)
    .action(async (name: string | undefined, options: Json) => {
      const which = name === undefined ? {} : { name: asName(name) };
      const items = await using((client) => client.api.snapshots.list.query(which));
      print(options.json, items, () =>
        items.length === 0 ? `${name ?? 'The workspace'} has no snapshots.` : listing(items, Date.now()),
      );
    });
  snapshot
    .command('restore')
    .description(
      'make the sandbox what it was then, and keep what it is now as another snapshot; or make a new one of it',
    )
    .argument('<sandbox>', 'with --as and nothing else: the id of a snapshot, whose sandbox may be gone')
    .argument('[snapshot]', 'its name or id')
    .option('--as <name>', 'leave the sandbox alone, and make a new one of this name')
    .option(...json)
    .action(async (name: string, which: string | undefined, options: Json & { as?: string }) => {
      if (options.as !== undefined)
        return await restoreAs(options.as, which === undefined ? { id: name } : { name, which }, options);
      if (which === undefined) throw new Failure('bad_request', 'which snapshot? torpor snapshot list lists them');
      const ask = { name: asName(name), snapshot: which };
      const done = await using((client) => client.api.snapshots.restore.mutate(ask));
      const kept = done.before ? `; before that it was ${done.before.id}` : '';
      print(options.json, done, () => `${name} is as it was in ${which} (${done.tookMs.toFixed(0)} ms)${kept}`);
    });
  snapshot
    .command('delete')
    .alias('rm')
    .description('let it go; its space is free')
    .argument('<sandbox>', 'alone: the id of a snapshot, whose sandbox may be gone')
    .argument('[snapshot...]', 'names or ids')
    .option(...json)
    .action(async (name: string, which: string[], options: Json) => {
      const asks =
        which.length === 0 ? [{ snapshot: name }] : which.map((snapshot) => ({ name: asName(name), snapshot }));
      for (const ask of asks) {
        const gone = await using((client) => client.api.snapshots.delete.mutate(ask));
        print(options.json, gone, () => `${ask.snapshot} is gone`);
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
    .description('what befell a sandbox, the oldest first; where there is an id, it can go back there')
    .argument('<name>')
    .option(...json)
    .action(async (name: string, options: Json) => {
      const points = await using((client) => client.api.sandboxes.history.query({ name: asName(name) }));
      const now = Date.now();
      print(options.json, points, () =>
        table(
          ['WHEN', 'AGE', 'WHAT', 'ID'],
          points.map(({ atMs, told, id }) => [new Date(atMs).toISOString(), ago(atMs, now), told, id ?? '']),
        ),
      );
    });
}

async function restoreAs(
  as: string,
  from: { readonly id: string } | { readonly name: string; readonly which: string },
  options: Json,
): Promise<void> {
  const source = 'id' in from ? { snapshot: from.id } : { name: asName(from.name), snapshot: from.which };
  const ask = { ...source, as: asName(as), count: 1, env: {} };
  const made = await using((client) => client.api.sandboxes.fork.mutate(ask));
  print(options.json, made, () => made.forks.map(({ name, url }) => `${name} is ready: ${url}`).join('\n'));
}

interface ForkOptions extends Json {
  readonly count: number;
  readonly as?: string;
  readonly snapshot?: string;
  readonly env?: string[];
}

function listing(items: readonly SnapshotView[], nowMs: number): string {
  const withOwners = items.some(({ of }) => of !== undefined);
  const rows = items.map((one) => [
    one.id,
    one.name ?? '',
    ...(withOwners ? [ownerOf(one)] : []),
    one.state,
    WHY[one.because],
    one.bytes === undefined ? '' : mib(one.bytes),
    ago(one.atMs, nowMs),
  ]);
  return table(['ID', 'NAME', ...(withOwners ? ['OF'] : []), 'STATE', 'WHY', 'SIZE', 'AGE'], rows);
}

function ownerOf({ of, keptSinceMs }: SnapshotView): string {
  return `${of ?? ''}${keptSinceMs === undefined ? '' : ' (ended)'}`;
}

const WHY = {
  asked: 'asked for',
  fork: 'for a fork',
  restore: 'before a restore',
  store: 'slept in',
  death: 'before it died',
  'fall-back': 'put aside, files alone',
  compare: 'for a diff',
  merge: 'before a merge',
} as const;

function sizeOf({ bytes }: SnapshotView): string {
  return bytes === undefined ? '' : `, ${mib(bytes)}`;
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
