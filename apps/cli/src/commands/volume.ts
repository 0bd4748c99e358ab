/** Volumes: disks with a life of their own. */
import type { VolumeView } from '@torpor/api';
import { InvalidArgumentError, type Command } from 'commander';
import { using } from '../client/client.ts';
import { asVolume } from '../client/mounts.ts';
import { ago, table } from '../client/table.ts';
import { asName, print, wholeNumber } from './sandbox.ts';

interface Json {
  readonly json?: boolean;
}

export function addVolumeCommands(torpor: Command): void {
  const volume = torpor.command('volume').alias('vol').description('disks that outlive the sandboxes that use them');
  const json = ['--json', 'for programs'] as const;
  volume
    .command('create')
    .description('make one, empty or with what another holds now')
    .argument('<name>')
    .option('--size <MiB>', 'how much it may hold (default 1024, or that of the other)', wholeNumber)
    .option('--from <volume>', 'a volume or a snapshot of one; they share what neither changes')
    .option(...json)
    .action(async (name: string, options: Json & { size?: number; from?: string }) => {
      const ask = {
        name: asVolume(name),
        ...(options.size === undefined ? {} : { sizeMib: options.size }),
        ...(options.from === undefined ? {} : { from: asVolume(options.from) }),
      };
      const made = await using((client) => client.api.volumes.create.mutate(ask));
      print(options.json, made, () => `${made.name} is there, ${made.sizeMib} MiB on ${made.nodeId}`);
    });
  volume
    .command('list')
    .alias('ls')
    .description('the volumes of the workspace, and their snapshots')
    .option(...json)
    .action(async (options: Json) => {
      const items = await using((client) => client.api.volumes.list.query());
      print(options.json, items, () => (items.length === 0 ? 'There are no volumes.' : listing(items, Date.now())));
    });
  volume
    .command('get')
    .description('what is known of one')
    .argument('<name>')
    .option(...json)
    .action(async (name: string, options: Json) => {
      const one = await using((client) => client.api.volumes.get.query({ name: asVolume(name) }));
      print(options.json, one, () => listing([one], Date.now()));
    });
  volume
    .command('resize')
    .description('let it hold more, or less if what it holds fits; attached or not')
    .argument('<name>')
    .argument('<MiB>', 'how much it may hold', wholeNumber)
    .option(...json)
    .action(async (name: string, sizeMib: number, options: Json) => {
      const done = await using((client) => client.api.volumes.resize.mutate({ name: asVolume(name), sizeMib }));
      print(options.json, done, () => `${name} has ${done.sizeMib} MiB`);
    });
  volume
    .command('snapshot')
    .description(
      'keep what it holds now, as after a power cut if a sandbox uses it; "create --from" makes volumes of it',
    )
    .argument('<name>')
    .argument('<snapshot>', 'what to call it')
    .option(...json)
    .action(async (name: string, as: string, options: Json) => {
      const made = await using((client) =>
        client.api.volumes.snapshot.mutate({ name: asVolume(name), as: asVolume(as) }),
      );
      print(options.json, made, () => `${as} holds ${name} as it is now`);
    });
  volume
    .command('attach')
    .description('give it to a sandbox, which wakes for it; one at a time has it')
    .argument('<name>')
    .argument('<sandbox:/path>', 'where it is to be seen', placeIn)
    .option(...json)
    .action(async (name: string, { sandbox, path }: Place, options: Json) => {
      const ask = { name: asVolume(name), sandbox: asName(sandbox), path };
      const done = await using((client) => client.api.volumes.attach.mutate(ask));
      print(options.json, done, () => `${name} is at ${path} in ${sandbox}`);
    });
  volume
    .command('detach')
    .description('take it from its sandbox, which wakes for it; refused while a program uses it')
    .argument('<name>')
    .option(...json)
    .action(async (name: string, options: Json) => {
      const done = await using((client) => client.api.volumes.detach.mutate({ name: asVolume(name) }));
      print(options.json, done, () => `${name} is attached nowhere`);
    });
  volume
    .command('delete')
    .alias('rm')
    .description('it and what it holds are gone; refused while it is attached')
    .argument('<name...>')
    .option(...json)
    .action(async (names: string[], options: Json) => {
      for (const name of names) {
        const gone = await using((client) => client.api.volumes.delete.mutate({ name: asVolume(name) }));
        print(options.json, gone, () => `${name} is gone`);
      }
    });
}

interface Place {
  readonly sandbox: string;
  readonly path: string;
}

function placeIn(text: string): Place {
  const at = text.indexOf(':');
  if (at < 1) throw new InvalidArgumentError('expected a sandbox and a path in it, such as web:/data');
  return { sandbox: text.slice(0, at), path: text.slice(at + 1) };
}

function listing(items: readonly VolumeView[], nowMs: number): string {
  const rows = items.map((one) => [
    one.name,
    one.kind,
    one.usedMib === undefined ? '' : `${one.usedMib} MiB`,
    `${one.sizeMib} MiB`,
    stateOf(one),
    one.origin?.name ?? '',
    one.nodeId,
    ago(one.createdAtMs, nowMs),
  ]);
  return table(['NAME', 'KIND', 'USED', 'SIZE', 'STATE', 'FROM', 'NODE', 'AGE'], rows);
}

function stateOf({ phase, attachment }: VolumeView): string {
  if (!attachment) return phase === 'ready' ? 'free' : phase;
  return `${attachment.state} ${attachment.sandbox}:${attachment.path}`;
}
