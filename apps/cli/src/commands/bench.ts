import { spawn } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { Failure } from '@torpor/kernel';
import { thisInstallation } from '../up/installation.ts';

/** Benchmarks live in test/bench, one file each; this finds and runs them. Their exit code says whether every goal held. */
export function addBenchCommand(torpor: Command): void {
  torpor
    .command('bench')
    .description('measure: torpor bench (lists the names), torpor bench wake [--json] [...]')
    .argument('[name]')
    .argument('[options...]')
    .allowUnknownOption()
    .passThroughOptions()
    .action((name: string | undefined, options: string[]) => runBench(name, options));
}

async function runBench(name: string | undefined, options: readonly string[]): Promise<void> {
  const directory = join(thisInstallation().checkout, 'test', 'bench');
  const names = (await readdir(directory))
    .filter((file) => file.endsWith('.bench.ts'))
    .map((file) => file.slice(0, -'.bench.ts'.length))
    .sort();
  if (name === undefined) return void process.stdout.write(`${names.join('\n')}\n`);
  if (!names.includes(name))
    throw new Failure('not_found', `no benchmark is called "${name}"; there are: ${names.join(', ')}`);
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', join(directory, `${name}.bench.ts`), ...options],
    { stdio: 'inherit' },
  );
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (exit) => resolve(exit ?? 1));
  });
  process.exitCode = code;
}
