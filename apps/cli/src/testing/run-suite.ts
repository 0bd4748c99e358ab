import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tallyGo, tallyVitest, type Suite, type Tally } from './suites.ts';

export interface Outcome extends Tally {
  readonly name: string;
  readonly tookMs: number;
  readonly output: string;
}

/** Runs one suite to its end, or to its deadline, at which its whole process group is killed. Never rejects: what goes wrong is a failure counted. */
export async function runSuite(
  suite: Suite,
  options: { show: (text: string) => void; nice?: number },
): Promise<Outcome> {
  const began = performance.now();
  const scratch = await mkdtemp(join(tmpdir(), 'torpor-suite-'));
  const report = join(scratch, 'report.json');
  const extra = suite.read === 'vitest' ? [`--outputFile.json=${report}`] : [];
  const [program, ...args] = [...suite.command, ...extra];
  const { output, failure } = await runToEnd(program ?? '', args, suite, options.show);
  const tally = await readTally(suite, output, report, failure);
  await rm(scratch, { recursive: true, force: true });
  return {
    name: suite.name,
    tookMs: performance.now() - began,
    output: failure ? `${output}\n${failure}` : output,
    ...tally,
  };
}

async function readTally(suite: Suite, output: string, report: string, failure: string | undefined): Promise<Tally> {
  const broken = { passed: 0, failed: 1, skipped: 0 };
  if (suite.read === 'exit') return failure ? broken : { passed: 1, failed: 0, skipped: 0 };
  const text = suite.read === 'go' ? output : await readFile(report, 'utf8').catch(() => undefined); // not written when it died early
  if (text === undefined) return broken;
  const tally = suite.read === 'go' ? tallyGo(text) : tallyVitest(text);
  // Whoever ends badly has failed somewhere, whatever its counts say.
  return failure && tally.failed === 0 ? { ...tally, failed: 1 } : tally;
}

function runToEnd(
  program: string,
  args: readonly string[],
  suite: Suite,
  show: (text: string) => void,
): Promise<{ output: string; failure: string | undefined }> {
  return new Promise((resolve) => {
    let output = '';
    let late = false;
    const child = spawn(program, [...args], {
      cwd: suite.cwd,
      env: { ...suite.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    const bell = setTimeout(() => {
      late = true;
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    }, suite.deadlineMs);
    const take = (bytes: Buffer) => {
      output += bytes.toString();
      if (suite.read === 'vitest') show(bytes.toString());
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.once('error', (error) => end(`it did not start: ${error.message}`));
    child.once('close', (code, signal) => {
      if (late) end(`the timer "${suite.name}" ended after ${suite.deadlineMs} ms`);
      else end(code === 0 ? undefined : `it ended with ${signal ?? code}`);
    });
    function end(failure: string | undefined) {
      clearTimeout(bell);
      resolve({ output, failure });
    }
  });
}
