/** `torpor`: the whole stack in one local command, and the tool that speaks to it. */
import { inspect } from 'node:util';
import { explain, Failure } from '@torpor/kernel';
import { CommandFailed } from './command.ts';
import { program } from './commands/program.ts';
import { SetupFailed } from './setup/run-steps.ts';

// Whoever read our output has had enough of it (`| head`), or their terminal is gone: we end as by any other wish that we end,
// which is told once: what is under way may be ending well when further writes fail.
let told = false;
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE' && !(error.code === 'EIO' && stream.isTTY)) throw error;
    if (told) return;
    told = true;
    process.kill(process.pid, 'SIGTERM');
  });
}

try {
  await program().parseAsync(process.argv);
} catch (error) {
  process.stderr.write(`torpor: ${sayFor(error)}\n`);
  process.exitCode = 1;
}

/** What a person reads: the failure and its causes; a stack trace only where it is our bug, or when asked for. */
function sayFor(error: unknown): string {
  if (process.env.TORPOR_DEBUG) return inspect(error); // causes and all
  if (error instanceof Failure || error instanceof SetupFailed) return explain(error);
  if (error instanceof CommandFailed) return `${explain(error)}\n${error.tail}`;
  return `${explain(error)}\n(TORPOR_DEBUG=1 shows where)`;
}
