import { Failure } from '@torpor/kernel';
import { InvalidArgumentError, type Command } from 'commander';
import { ago, table } from '../client/table.ts';
import { using } from '../client/client.ts';
import { collect, print } from './sandbox.ts';

export function addKeyCommands(torpor: Command): void {
  const key = torpor.command('key').description('API keys of the workspace');
  key
    .command('create')
    .description('make a key; it is shown this once')
    .argument('<name>')
    .option('--role <role>', 'admin or member', 'member')
    .option('--scope <scope>', 'only this: sandboxes:read, sandboxes:*, …; repeatable', collect)
    .option('--days <n>', 'it ends after so many days', days)
    .option('--json', 'for programs')
    .action(async (name: string, options: { role: string; scope?: string[]; days?: number; json?: boolean }) => {
      const role = options.role === 'admin' ? 'admin' : 'member';
      if (options.role !== role)
        throw new Failure('bad_request', `--role expects admin or member, got "${options.role}"`);
      const lifeMs = options.days === undefined ? {} : { lifeMs: options.days * 86_400_000 };
      const made = await using((client) =>
        client.api.keys.create.mutate({ name, role, ...(options.scope ? { scopes: options.scope } : {}), ...lifeMs }),
      );
      print(
        options.json,
        made,
        () => `${made.text}\n\nKeep it: it is not shown again. "torpor key revoke ${made.key.id}" ends it.`,
      );
    });
  key
    .command('list')
    .alias('ls')
    .option('--json', 'for programs')
    .description('the keys, without their secrets')
    .action(async (options: { json?: boolean }) => {
      const keys = await using((client) => client.api.keys.list.query());
      const now = Date.now();
      const used = (at: number | undefined) => (at === undefined ? 'never' : `${ago(at, now)} ago`);
      const rows = keys.map((each) => [
        each.id,
        each.prefix,
        each.name,
        each.role,
        each.scopes === undefined ? 'all' : each.scopes.join(',') || 'none',
        used(each.lastUsedAtMs),
        each.revokedAtMs === undefined ? '' : 'revoked',
      ]);
      print(options.json, keys, () => table(['ID', 'PREFIX', 'NAME', 'ROLE', 'SCOPES', 'USED', ''], rows));
    });
  key
    .command('revoke')
    .description('end a key, everywhere within five seconds')
    .argument('<id>')
    .option('--json', 'for programs')
    .action(async (id: string, options: { json?: boolean }) => {
      const ended = await using((client) => client.api.keys.revoke.mutate({ id }));
      print(options.json, ended, () => `the key "${ended.name}" is revoked`);
    });
}

function days(text: string): number {
  if (!/^[1-9]\d{0,4}$/.test(text)) throw new InvalidArgumentError('expected a number of days, 1 to 99999');
  return Number(text);
}
