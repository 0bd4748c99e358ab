/** What `torpor test` runs, as data: each suite a program of its own, with a way to read how many of its tests passed. */
import { join } from 'node:path';

export type Tier = 'quick' | 'full' | 'soak';

export interface Suite {
  readonly name: string;
  readonly tiers: readonly Tier[];
  readonly command: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly read: 'exit' | 'vitest' | 'go';
  readonly deadlineMs: number;
}

export interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

const EVERY: readonly Tier[] = ['quick', 'full'];
const MINUTE = 60_000;
/** System tests that know a longer way. */
const SOAKED = ['restart', 'stored', 'snapshot-deaths', 'move', 'volumes'];

export function suites(at: {
  checkout: string;
  go: string;
  env: Readonly<Record<string, string>>;
  /** What the driver's conformance suite needs to run on gVisor as well. */
  realHost: Readonly<Record<string, string>>;
}): Suite[] {
  const bin = (name: string) => join(at.checkout, 'node_modules', '.bin', name);
  const vitest = (project: string) => [
    bin('vitest'),
    'run',
    '--project',
    project,
    '--reporter=default',
    '--reporter=json',
  ];
  const common = { cwd: at.checkout, env: at.env, tiers: EVERY };
  return [
    { ...common, name: 'types', command: [bin('tsc'), '-p', 'tsconfig.json'], read: 'exit', deadlineMs: 3 * MINUTE },
    { ...common, name: 'lint', command: [bin('oxlint'), '--deny-warnings'], read: 'exit', deadlineMs: 2 * MINUTE },
    { ...common, name: 'format', command: [bin('oxfmt'), '--check', '.'], read: 'exit', deadlineMs: 2 * MINUTE },
    {
      ...common,
      name: 'walls',
      command: [bin('depcruise'), '--config', '.dependency-cruiser.mjs', 'apps', 'packages', 'test'],
      read: 'exit',
      deadlineMs: 3 * MINUTE,
    },
    { ...common, name: 'dead code', command: [bin('knip')], read: 'exit', deadlineMs: 3 * MINUTE },
    {
      ...common,
      name: 'guest (go)',
      command: [at.go, 'test', '-json', './...'],
      cwd: join(at.checkout, 'packages/guest'),
      read: 'go',
      deadlineMs: 10 * MINUTE,
    },
    {
      ...common,
      name: 'hostd (go)',
      command: [at.go, 'test', '-json', './...'],
      cwd: join(at.checkout, 'packages/hostd'),
      read: 'go',
      deadlineMs: 10 * MINUTE,
    },
    {
      ...common,
      name: 'faultfs (go)',
      command: [at.go, 'test', '-json', './...'],
      cwd: join(at.checkout, 'test/faultfs'),
      read: 'go',
      deadlineMs: 10 * MINUTE,
    },
    {
      ...common,
      name: 'hostd on this host (go)',
      tiers: ['full'],
      command: [at.go, 'test', '-json', '-tags', 'host', './...'],
      cwd: join(at.checkout, 'packages/hostd'),
      read: 'go',
      deadlineMs: 10 * MINUTE,
    },
    {
      ...common,
      // Alone: it has deadlines that a machine busy with other tests would break.
      name: 'driver on gVisor',
      tiers: ['full'],
      command: [...vitest('unit'), 'packages/runtime/src/gvisor-driver.host.test.ts'],
      env: { ...at.env, ...at.realHost },
      read: 'vitest',
      deadlineMs: 5 * MINUTE,
    },
    { ...common, name: 'units', command: vitest('unit'), read: 'vitest', deadlineMs: 10 * MINUTE },
    { ...common, name: 'system', command: vitest('system'), read: 'vitest', deadlineMs: 45 * MINUTE },
    { ...common, name: 'system, own installations', command: vitest('own'), read: 'vitest', deadlineMs: 50 * MINUTE },
    {
      ...common,
      name: 'soak',
      tiers: ['soak'],
      command: [...vitest('system'), ...['reboot', 'power-cut', 'soak'].map((name) => `test/system/${name}.test.ts`)],
      read: 'vitest',
      deadlineMs: 180 * MINUTE,
    },
    {
      ...common,
      name: 'soak, own installations',
      tiers: ['soak'],
      command: [...vitest('own'), ...SOAKED.map((name) => `test/system/${name}.test.ts`)],
      read: 'vitest',
      deadlineMs: 180 * MINUTE,
    },
  ];
}

/** The events of `go test -json`, in the format that `go doc test2json` states; lines that are none are left out. */
interface GoEvent {
  readonly Action?: string;
  readonly Package?: string;
  readonly Test?: string;
  readonly Output?: string;
  readonly FailedBuild?: string;
}

function goEvents(output: string): GoEvent[] {
  const lines = output.split('\n').filter((line) => line.startsWith('{'));
  return lines.map((line) => JSON.parse(line) as GoEvent); // the format is Go's to keep
}

/** Counts the outcomes of top-level Go tests in `go test -json` output. A package that does not build counts as one failure. */
export function tallyGo(output: string): Tally {
  const tally = { passed: 0, failed: 0, skipped: 0 };
  for (const event of goEvents(output)) {
    if (event.FailedBuild !== undefined && event.Action === 'fail') tally.failed++;
    if (event.Test === undefined || event.Test.includes('/')) continue;
    if (event.Action === 'pass') tally.passed++;
    if (event.Action === 'fail') tally.failed++;
    if (event.Action === 'skip') tally.skipped++;
  }
  return tally;
}

/** What the tests that failed have printed, from `go test -json` output: with hundreds beside them they would not be found in it. */
export function failuresOfGo(output: string): string {
  const printed = new Map<string, string>();
  const failed = new Set<string>();
  for (const event of goEvents(output)) {
    const key = `${event.Package ?? ''} ${event.Test ?? ''}`;
    if (event.Action === 'output') printed.set(key, (printed.get(key) ?? '') + (event.Output ?? ''));
    if (event.Action === 'fail') failed.add(key);
  }
  return [...failed].map((key) => `${key}\n${printed.get(key) ?? ''}`).join('\n');
}

/** Counts from Vitest's JSON reporter. */
export function tallyVitest(json: string): Tally {
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, numFailedTestSuites } = JSON.parse(
    json,
  ) as Record<string, number | undefined>;
  const failed = numFailedTests ?? 0;
  return {
    passed: numPassedTests ?? 0,
    // A file that fails before its first test has no failed test of its own.
    failed: failed === 0 && (numFailedTestSuites ?? 0) > 0 ? (numFailedTestSuites ?? 0) : failed,
    skipped: (numPendingTests ?? 0) + (numTodoTests ?? 0),
  };
}
