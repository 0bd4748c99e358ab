/** What sleep on the disk takes below all rooms: hostd's save and restore, beside gVisor's own of the same sandbox, in turn, by hostd's own benchmarks. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { checkout, torpor } from './stack.ts';

const exec = promisify(execFile);
const TIMEOUT_MS = 20 * 60_000;

/** Medians, ms, by what hostd's benchmark calls them. */
export type Row = ReadonlyMap<string, number>;

export interface Floors {
  /** By MiB of incompressible memory: 0, 100, 400. */
  readonly bySize: ReadonlyMap<number, Row>;
  /** What encrypting and decrypting so much costs one processor, ms per 100 MiB. */
  readonly encryptMs: number;
  readonly decryptMs: number;
}

interface Tools {
  readonly runsc: string;
  readonly go: { readonly path: string; readonly env: Record<string, string> } | null;
}

export async function measureFloors(rounds: number): Promise<Floors> {
  const { runsc, go } = JSON.parse(await torpor(['setup', 'up', 'test', '--json'])) as Tools; // printed by our own set-up
  if (!go) throw new Error('the floors are measured by a Go program, and the set-up found no Go');
  const scope = (process.pid % 256).toString(16).padStart(2, '0');
  const env = { ...process.env, ...go.env, RUNSC: runsc, HOSTD_E2E_BENCH: String(rounds), HOSTD_E2E_SCOPE: scope };
  const run = async (args: readonly string[]) =>
    (
      await exec(go.path, ['test', ...args], {
        cwd: join(checkout, 'packages/hostd'),
        env,
        timeout: TIMEOUT_MS,
        maxBuffer: 64 << 20,
      })
    ).stdout;
  const storing = await run([
    '-tags',
    'host',
    '-count=1',
    '-v',
    '-timeout',
    '20m',
    '-run',
    '^TestWhatStoringCosts$',
    './e2e',
  ]);
  const sealing = await run([
    '-count=1',
    '-run',
    '^$',
    '-bench',
    '^Benchmark(PutIncompressible/none|Open)$',
    './internal/image',
  ]);
  return {
    bySize: rowsOf(storing),
    encryptMs: perHundredMib(sealing, 'PutIncompressible'),
    decryptMs: perHundredMib(sealing, 'Open'),
  };
}

function rowsOf(output: string): Map<number, Row> {
  const found = new Map<number, Map<string, number>>();
  let row = new Map<string, number>();
  for (const line of output.split('\n')) {
    const size = /^=== RUN +TestWhatStoringCosts\/(\d+)MiB$/.exec(line)?.[1];
    if (size !== undefined) found.set(Number(size), (row = new Map()));
    const [, what, median] = /: (\S.*\S) +min +[\d.]+ +median +([\d.]+) /.exec(line) ?? [];
    if (what !== undefined) row.set(what, Number(median));
  }
  return found;
}

/** From the MB/s of a Go benchmark. */
function perHundredMib(output: string, name: string): number {
  const rate = Number(new RegExp(`^Benchmark${name}\\S*\\s.*?([\\d.]+) MB/s`, 'm').exec(output)?.[1]);
  return ((100 * 2 ** 20) / (rate * 1e6)) * 1000;
}
