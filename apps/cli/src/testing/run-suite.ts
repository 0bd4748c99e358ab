import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runWatched } from '../command.ts';
import { tallyGo, tallyVitest, type Suite, type Tally } from './suites.ts';

export interface Outcome extends Tally {
  readonly name: string;
  readonly tookMs: number;
  readonly output: string;
}

/**
 * Runs one suite to its end, or until its deadline or the signal, by which its whole process group is ended. Never rejects: what goes wrong is a failure
 * counted.
 */
export async function runSuite(
  suite: Suite,
  { show, signal }: { show: (text: string) => void; signal?: AbortSignal },
): Promise<Outcome> {
  const began = performance.now();
  const scratch = await mkdtemp(join(tmpdir(), 'torpor-suite-'));
  const report = join(scratch, 'report.json');
  const extra = suite.read === 'vitest' ? [`--outputFile.json=${report}`] : [];
  let output = '';
  const failure = await runWatched([...suite.command, ...extra], {
    ...suite,
    signal,
    heard: (text) => {
      output += text;
      if (suite.read === 'vitest') show(text);
    },
  });
  const tally = await readTally(suite, output, report, failure);
  await rm(scratch, { recursive: true, force: true });
  return {
    name: suite.name,
    tookMs: performance.now() - began,
    output: failure ? `${output}\n${suite.name} ${failure}` : output,
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
