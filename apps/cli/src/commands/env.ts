import type { Command } from 'commander';
import { Failure } from '@torpor/kernel';
import { readCredentials } from '../up/credentials.ts';
import { DIALECTS, environmentOf, exportLines } from '../up/environment-lines.ts';
import { thisInstallation } from '../up/installation.ts';

export function addEnvCommand(torpor: Command): void {
  torpor
    .command('env')
    .description('print export lines for an SDK: eval "$(torpor env blaxel)"')
    .argument('[dialect]', `one of: ${DIALECTS.join(', ')}`, 'blaxel')
    .action(async (text: string) => {
      const dialect = DIALECTS.find((name) => name === text);
      if (!dialect)
        throw new Failure('bad_request', `no dialect is called "${text}"; expected one of: ${DIALECTS.join(', ')}`);
      const credentials = await readCredentials(thisInstallation());
      if (!credentials) throw new Failure('not_found', 'this installation has no key yet; "torpor up" makes the first');
      process.stdout.write(`${exportLines(environmentOf(dialect, credentials))}\n`);
    });
}
