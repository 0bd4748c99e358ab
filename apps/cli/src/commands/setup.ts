import type { Command } from 'commander';
import { Failure } from '@torpor/kernel';
import { ensureSetup, WANTS, type Want } from '../setup/setup.ts';

export function addSetupCommand(torpor: Command): void {
  torpor
    .command('setup')
    .description('make sure of everything that the stack needs on this machine, and start nothing')
    .argument('[parts...]', `any of: ${WANTS.join(', ')}`)
    .option('--json', 'print where everything is, for programs')
    .action(async (parts: string[], { json }: { json?: boolean }) => {
      const tools = await ensureSetup({ want: parts.length === 0 ? ['up'] : parts.map(asWant), out: process.stderr });
      process.stdout.write(json ? `${JSON.stringify(tools, null, 2)}\n` : 'This machine has what the stack needs.\n');
    });
}

function asWant(text: string): Want {
  const want = WANTS.find((name) => name === text);
  if (!want) throw new Failure('bad_request', `no part is called "${text}"; expected any of: ${WANTS.join(', ')}`);
  return want;
}
