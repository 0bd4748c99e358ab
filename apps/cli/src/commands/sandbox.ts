import type { WakeBudget } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { InvalidArgumentError, type Command } from 'commander';
import { using, usingSandbox, type Client } from '../client/client.ts';
import { inWords, showProgress } from '../client/copy-progress.ts';
import { copyFiles, placeOf, type Tally } from '../client/copy.ts';
import { asleepAfter, details } from '../client/details.ts';
import { passSignalsOn } from '../client/ending.ts';
import { budgetOf, budgetOrNone, orNull, WAKE_BUDGET, wakeBudget } from '../client/budgets.ts';
import { copyInput, copyOutput, signalProcess, startProcess } from '../client/processes.ts';
import { LOST_EXIT_CODE } from '../client/receipts.ts';
import { ago, table } from '../client/table.ts';
import { openTerminal } from '../client/terminal.ts';
import { nextWake, tierOf } from '../client/tiers.ts';
import { hintAtUnsentInput } from '../client/unsent-input.ts';
import { mountOf } from '../client/mounts.ts';

type View = Awaited<ReturnType<Client['api']['sandboxes']['get']['query']>>;

const IDLE = 'fall asleep after so long without use; 0: never by itself';

/** Answers the command that holds them, for those that have a file of their own. */
export function addSandboxCommands(torpor: Command): Command {
  const sandbox = torpor.command('sandbox').alias('sbx').description('create and use sandboxes');
  const json = ['--json', 'for programs'] as const;

  sandbox
    .command('create')
    .description('make a sandbox; answers when it can be used')
    .argument('[name]')
    .option('--image <image>', 'template (default blaxel/base-image:latest)')
    .option('--memory <MiB>', 'memory limit (default 4096)', wholeNumber)
    .option('--disk <MiB>', 'disk limit', wholeNumber)
    .option('--env <NAME=value>', 'environment of every process; repeatable', collect)
    .option('--label <name=value>', 'label; repeatable', collect)
    .option('--snapshots-max <n>', 'keep so many of the snapshots that are asked for', wholeNumber)
    .option('--snapshots-days <n>', '… and none that is older', wholeNumber)
    .option('--snapshots-size <MiB>', '… and no more of them than take this of the disk', wholeNumber)
    .option('--keep-stores <n>', 'keep so many of the images that it slept in, to go back to', wholeNumber)
    .option('--volume <name:/path>', 'attach a volume there; repeatable', collect)
    .option('--idle <seconds>', IDLE, wholeNumber)
    .option('--wake-budget <budget>', WAKE_BUDGET, wakeBudget)
    .option(...json)
    .action(async (name: string | undefined, options: CreateOptions) => {
      const made = await using((client) => client.api.sandboxes.create.mutate(createInput(name, options)));
      print(options.json, made, () => `${made.name} is ready: ${made.url}`);
    });
  sandbox
    .command('set')
    .description('change how it sleeps')
    .argument('<name>')
    .option('--idle <seconds>', IDLE, wholeNumber)
    .option('--wake-budget <budget>', `${WAKE_BUDGET}, or workspace: that of the workspace`, budgetOrNone('workspace'))
    .option(...json)
    .action(async (name: string, { idle, wakeBudget: budget, json: asJson }: SetOptions) => {
      if (idle === undefined && budget === undefined)
        throw new Failure('bad_request', 'there is nothing to change: expected --idle or --wake-budget');
      const input = {
        name: asName(name),
        ...(idle === undefined ? {} : { idle: idleInput(idle) }),
        ...(budget === undefined ? {} : { wakeBudget: orNull(budget) }),
      };
      const view = await using((client) => client.api.sandboxes.update.mutate(input));
      print(asJson, view, () => `${view.name}: ${[asleepAfter(view), budgetOf(view)].filter(Boolean).join('; ')}`);
    });
  sandbox
    .command('list')
    .alias('ls')
    .description('the sandboxes of the workspace')
    .option('--all', 'ended ones too')
    .option(...json)
    .action(async (options: { all?: boolean; json?: boolean }) => {
      await using(async (client) => {
        const items = await everySandbox(client, options.all ?? false);
        const nothing = items.length === 0 && !options.json ? await sayNothing(client) : '';
        print(options.json, items, () => nothing || listing(items));
      });
    });
  sandbox
    .command('get')
    .description('what is known of one')
    .argument('<name>')
    .option(...json)
    .action(async (name: string, options: { json?: boolean }) => {
      const view = await using((client) => client.api.sandboxes.get.query({ name: asName(name) }));
      print(options.json, view, () => details(view, Date.now()));
    });
  sandbox
    .command('pause')
    .description('let it sleep now; any use wakes it')
    .argument('<name>')
    .option(...json)
    .action(async (name: string, options: { json?: boolean }) => {
      const result = await using((client) => client.api.sandboxes.pause.mutate({ name: asName(name) }));
      print(options.json, result, () => `${name} sleeps (${result.state}, ${result.tookMs.toFixed(1)} ms)`);
    });
  sandbox
    .command('resume')
    .description('wake it')
    .argument('<name>')
    .option('--files-only', 'give the memory of a stored one up, and start it anew with its files')
    .option(...json)
    .action(async (name: string, { json: asJson, filesOnly }: { json?: boolean; filesOnly?: boolean }) => {
      const input = { name: asName(name), ...(filesOnly ? { filesOnly } : {}) };
      const result = await using((client) => client.api.sandboxes.resume.mutate(input));
      print(asJson, result, () => `${name} is awake (${result.state}, ${result.tookMs.toFixed(1)} ms)`);
      if (result.lost === undefined || filesOnly) return;
      process.stderr.write(`torpor: not all of ${name} came back: ${result.lost}\n`);
      process.exitCode = LOST_EXIT_CODE;
    });
  sandbox
    .command('delete')
    .alias('rm')
    .description('end it; its memory, processes, files and snapshots are gone')
    .argument('<name...>')
    .option('--keep-snapshots', 'but for the snapshots that somebody asked for')
    .option(...json)
    .action(async (names: string[], options: { json?: boolean; keepSnapshots?: boolean }) => {
      const { keepSnapshots = false } = options;
      for (const name of names) {
        const ask = { name: asName(name), keepSnapshots };
        const ended = await using((client) => client.api.sandboxes.delete.mutate(ask));
        print(options.json, ended, () => `${name} is gone`);
      }
    });
  sandbox
    .command('exec')
    .description(
      'run a program: torpor sandbox exec NAME -- ls -l; its exit code becomes ours, and what ends us ends it',
    )
    .argument('<name>')
    .argument('<command...>')
    .option('--detach', 'leave it running and print its name')
    .option('-i, --stdin', 'give it our standard input, to its end')
    .option('--as <name>', 'name of the process')
    .option('--cwd <path>', 'working directory')
    .option('--env <NAME=value>', 'environment; repeatable', collect)
    .allowUnknownOption()
    .action(
      async (
        name: string,
        command: string[],
        options: { detach?: boolean; stdin?: boolean; as?: string; cwd?: string; env?: string[] },
      ) => {
        const request = {
          ...(command.length === 1 ? { shell: command[0] } : { argv: command }),
          ...(options.as ? { name: options.as } : {}),
          ...(options.cwd ? { cwd: options.cwd } : {}),
          ...(options.stdin ? { stdin: true } : {}),
          env: pairs('--env', options.env),
        };
        await usingSandbox(name, async (client) => {
          const starting = startProcess(client, name, request);
          if (options.detach) process.stdout.write(`${(await starting).name}\n`);
          else process.exitCode = await attend(client, name, starting, options.stdin ?? false);
        });
        if (!options.stdin) await hintAtUnsentInput((line) => process.stderr.write(line));
      },
    );
  sandbox
    .command('logs')
    .description("a process's output")
    .argument('<name>')
    .argument('<process>', 'name, id or pid')
    .option('-f, --follow', 'until it ends')
    .action(async (name: string, process_: string, options: { follow?: boolean }) => {
      await usingSandbox(name, (client) => copyOutput(client, name, process_, { follow: options.follow ?? false }));
    });
  sandbox
    .command('cp')
    .description('copy files: torpor sandbox cp ./src NAME:/blaxel/src; links in a folder stay links')
    .argument('<from>')
    .argument('<to>')
    .option(...json)
    .action(async (from: string, to: string, options: { json?: boolean }) => {
      const tally: Tally = { files: 0, folders: 0, links: 0, bytes: 0, leftOut: [] };
      const done = options.json ? () => {} : showProgress(tally, process.stderr);
      try {
        await using((client) => copyFiles(client, placeOf(from), placeOf(to), tally));
      } finally {
        done();
      }
      print(options.json, tally, () => inWords(tally));
      if (tally.leftOut.length > 0) process.exitCode = 1; // what is not all there is no success
    });
  sandbox
    .command('shell')
    .description('a terminal in it')
    .argument('<name>')
    .option('--shell <path>', 'program', '/bin/bash')
    .action(async (name: string, options: { shell: string }) => {
      process.exitCode = await usingSandbox(name, (client) => openTerminal(client, name, options.shell));
    });
  return sandbox;
}

/** Follows a program to its end, with our input if asked. What ends us ends it, from the moment that it is asked for. */
async function attend(
  client: Client,
  name: string,
  starting: Promise<{ readonly id: string }>,
  withInput: boolean,
): Promise<number> {
  const send = async (signal: string) => signalProcess(client, name, (await starting).id, signal);
  const passing = passSignalsOn(send, (code) => process.exit(code)); // nothing here outlives us that must be closed
  let input: Promise<void> | undefined;
  try {
    const { id } = await starting;
    input = withInput ? copyInput(client, name, id, process.stdin) : undefined;
    input?.catch(() => {}); // what breaks it breaks the output too, which says so
    return await copyOutput(client, name, id, { follow: true });
  } finally {
    passing.close();
    if (input) process.stdin.destroy(); // nobody reads it any more
    await input?.catch(() => {}); // what was typed after the end
  }
}

interface SetOptions {
  readonly idle?: number;
  readonly wakeBudget?: WakeBudget | 'none';
  readonly json?: boolean;
}

interface CreateOptions {
  readonly image?: string;
  readonly memory?: number;
  readonly disk?: number;
  readonly env?: string[];
  readonly label?: string[];
  readonly volume?: string[];
  readonly idle?: number;
  readonly snapshotsMax?: number;
  readonly snapshotsDays?: number;
  readonly snapshotsSize?: number;
  readonly keepStores?: number;
  readonly wakeBudget?: WakeBudget;
  readonly json?: boolean;
}

/** Only what is said: for the rest its node's limits hold. */
function limitsOf({ snapshotsMax, snapshotsDays, snapshotsSize, keepStores }: CreateOptions) {
  const limits = {
    ...(snapshotsMax === undefined ? {} : { askedMax: snapshotsMax }),
    ...(snapshotsDays === undefined ? {} : { askedMs: snapshotsDays * 86_400_000 }),
    ...(snapshotsSize === undefined ? {} : { askedBytes: snapshotsSize * 2 ** 20 }),
    ...(keepStores === undefined ? {} : { storesMax: keepStores }),
  };
  return Object.keys(limits).length === 0 ? {} : { snapshotLimits: limits };
}

function createInput(name: string | undefined, options: CreateOptions) {
  return {
    ...(name === undefined ? {} : { name: asName(name) }),
    ...(options.image === undefined ? {} : { image: options.image }),
    ...(options.memory === undefined ? {} : { memoryMib: options.memory }),
    ...(options.disk === undefined ? {} : { diskMib: options.disk }),
    ...(options.idle === undefined ? {} : { idle: idleInput(options.idle) }),
    ...(options.wakeBudget === undefined ? {} : { wakeBudget: options.wakeBudget }),
    ...limitsOf(options),
    env: pairs('--env', options.env),
    labels: pairs('--label', options.label),
    ...(options.volume === undefined ? {} : { volumes: options.volume.map(mountOf) }),
  };
}

function idleInput(seconds: number): View['idle'] {
  return seconds === 0 ? { kind: 'never' } : { kind: 'after', idleMs: seconds * 1000 };
}

async function everySandbox(client: Client, showTerminated: boolean): Promise<View[]> {
  const items: View[] = [];
  let cursor: string | undefined;
  do {
    const page = await client.api.sandboxes.list.query({
      limit: 200,
      showTerminated,
      ...(cursor === undefined ? {} : { cursor }),
    });
    items.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return items;
}

/** Somebody who looks for their sandboxes may be looking in the wrong workspace. */
async function sayNothing({ api, at }: Client): Promise<string> {
  const all = await api.workspaces.list.query().catch(() => []); // a key may be forbidden to ask; the list is empty all the same
  const others = all.map(({ name }) => name as string).filter((name) => name !== at.workspace);
  const there =
    others.length === 0 ? '' : ` There are other workspaces: ${others.join(', ')}; TORPOR_WORKSPACE names one.`;
  return `There are no sandboxes in the workspace "${at.workspace}".${there} "torpor sandbox create" makes one.`;
}

function listing(items: readonly View[]): string {
  const now = Date.now();
  const rows = items.map((view) => [
    view.name,
    view.state ?? view.phase,
    tierOf(view) ?? '',
    nextWake(view),
    view.image,
    memoryOf(view),
    view.nodeId,
    ago(view.lastUsedAtMs, now),
    ago(view.createdAtMs, now),
  ]);
  return table(['NAME', 'STATE', 'TIER', 'WAKE', 'IMAGE', 'MEMORY', 'NODE', 'USED', 'AGE'], rows);
}

/** What it has in RAM, of what it may have. */
function memoryOf({ memoryMib, shape }: View): string {
  return memoryMib === undefined ? `${shape.memoryMib} MiB` : `${Math.round(memoryMib)}/${shape.memoryMib} MiB`;
}

export function print(json: boolean | undefined, value: unknown, say: () => string): void {
  process.stdout.write(`${json ? JSON.stringify(value, null, 2) : say()}\n`);
}

/** The gateway judges names; a branded type here would only repeat it. */
export function asName(name: string): View['name'] {
  return name as View['name'];
}

const WHOLE_MAX = 999_999_999;

export function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text))
    throw new InvalidArgumentError(`expected a whole number from 0 to ${WHOLE_MAX}, in digits alone`);
  return Number(text);
}

/** One value for each time that an option is given. Never a list after one flag: it would swallow the name that follows. */
export function collect(value: string, earlier: readonly string[] | undefined): string[] {
  return [...(earlier ?? []), value];
}

export function pairs(option: string, entries: readonly string[] | undefined): Record<string, string> {
  return Object.fromEntries(
    (entries ?? []).map((entry) => {
      const at = entry.indexOf('=');
      if (at < 1) throw new Failure('bad_request', `${option} expects name=value, got "${entry}"`);
      return [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}
