import type { Command } from 'commander';
import { passphraseIn } from '../backup/lock.ts';
import { onInterruption } from '../interruption.ts';
import { thisInstallation } from '../up/installation.ts';
import { settingsFrom } from '../up/settings.ts';
import { print } from './sandbox.ts';

const told = (line: string) => void process.stderr.write(`torpor: ${line}\n`);

export function addBackupCommands(torpor: Command): void {
  torpor
    .command('backup')
    .description(
      'a copy of the whole installation, locked by TORPOR_BACKUP_PASSPHRASE; each sandbox is stored for its copy and lives on; exit code 1 when something is not in it',
    )
    .argument('<directory>', 'empty, or to be made')
    .option('--json', 'for programs')
    .action(async (dir: string, options: { json?: boolean }) => {
      const passphrase = passphraseIn(process.env);
      const { backUp } = await import('../backup/backup.ts'); // the database's client, for these commands alone
      const { signal } = onInterruption('the backup was interrupted; what is in its directory is no backup');
      const list = await backUp(thisInstallation(), dir, { passphrase, told, signal });
      const { sandboxes, missing, tables } = list;
      print(options.json, { sandboxes: sandboxes.length, missing }, () =>
        [
          `${dir} holds ${sandboxes.length} sandboxes and ${tables.reduce((sum, { rows }) => sum + rows, 0)} rows`,
          ...missing.map(({ kind, workspace, name, reason }) => `${kind} ${workspace}/${name} is not in it: ${reason}`),
        ].join('\n'),
      );
      if (missing.length > 0) process.exitCode = 1;
    });
  torpor
    .command('restore')
    .description(
      'bring a backup back where this installation has nothing, judging all of it first; "torpor up" starts it then',
    )
    .argument('<directory>')
    .option('--disk <GiB>', 'size of the disk pool, taken at once')
    .option('--json', 'for programs')
    .action(async (dir: string, options: { disk?: string; json?: boolean }) => {
      const passphrase = passphraseIn(process.env);
      const { signal } = onInterruption('the restore was interrupted');
      const settings = settingsFrom(options.disk === undefined ? {} : { disk: options.disk }, {
        ...process.env,
        TORPOR_POOL: '0',
      });
      const { restore } = await import('../backup/restore.ts'); // as above
      const restored = await restore(thisInstallation(), dir, { passphrase, settings, told, signal });
      const lost = restored.missing.map(
        ({ kind, workspace, name, reason }) => `${kind} ${workspace}/${name} did not come back: ${reason}`,
      );
      print(options.json, restored, () => [`${restored.sandboxes} sandboxes are here, asleep`, ...lost].join('\n'));
      if (lost.length > 0) process.exitCode = 1;
    });
}
