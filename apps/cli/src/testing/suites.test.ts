import { expect, it } from 'vitest';
import { nameProcess } from '../up/processes.ts';
import { runSuite } from './run-suite.ts';
import { failuresOfGo, suites, tallyGo, tallyVitest, type Suite, type Tier } from './suites.ts';

it('counts top-level Go tests, and a package that does not build as a failure', () => {
  const lines = [
    { Action: 'pass', Test: 'TestA' },
    { Action: 'pass', Test: 'TestA/inner' },
    { Action: 'fail', Test: 'TestB' },
    { Action: 'skip', Test: 'TestC' },
    { Action: 'fail', FailedBuild: 'torpor/x' },
  ];
  expect(tallyGo(`noise\n${lines.map((line) => JSON.stringify(line)).join('\n')}`)).toEqual({
    passed: 1,
    failed: 2,
    skipped: 1,
  });
});

it('counts a file that fails before its first test', () => {
  expect(tallyVitest(JSON.stringify({ numPassedTests: 3, numFailedTests: 0, numFailedTestSuites: 1 }))).toMatchObject({
    passed: 3,
    failed: 1,
  });
});

const suite = (more: Partial<Suite>): Suite => ({
  name: 's',
  tiers: ['quick'],
  command: ['true'],
  cwd: '/',
  env: { PATH: '/usr/bin:/bin' },
  read: 'exit',
  deadlineMs: 5_000,
  ...more,
});

it('never passes a suite that ended badly', async () => {
  const show = () => {};
  expect(await runSuite(suite({}), { show })).toMatchObject({ passed: 1, failed: 0 });
  expect(await runSuite(suite({ command: ['false'] }), { show })).toMatchObject({ passed: 0, failed: 1 });
  expect(await runSuite(suite({ command: ['no-such-program'] }), { show })).toMatchObject({ failed: 1 });
  expect(
    await runSuite(suite({ read: 'go', command: ['sh', '-c', `echo '{"Action":"pass","Test":"TestA"}'; exit 1`] }), {
      show,
    }),
  ).toMatchObject({ passed: 1, failed: 1 });
  const late = await runSuite(suite({ command: ['sleep', '60'], deadlineMs: 100 }), { show });
  expect(late.failed).toBe(1);
  expect(late.output).toContain('s was not done after 0.1 s and was ended');
});

it('ends a suite, and what that has started, when it is told to', async () => {
  const interruption = new AbortController();
  let said = '';
  const outcome = await runSuite(suite({ command: ['sh', '-c', 'sleep 600 & echo $!; wait'], read: 'vitest' }), {
    signal: interruption.signal,
    show: (text) => {
      said += text;
      interruption.abort();
    },
  });
  expect(outcome).toMatchObject({ failed: 1, output: expect.stringContaining('s was interrupted') });
  expect(await nameProcess(Number(said))).toBeUndefined();
});

it('runs the slow suites in the full tier only, and the soak by itself', () => {
  const all = suites({ checkout: '/c', go: 'go', env: {}, realHost: {} });
  const of = (tier: Tier) => all.filter(({ tiers }) => tiers.includes(tier)).map(({ name }) => name);
  expect(of('full').filter((name) => !of('quick').includes(name))).toEqual([
    'hostd on this host (go)',
    'driver on gVisor',
  ]);
  expect(of('quick').filter((name) => !of('full').includes(name))).toEqual([]);
  expect(of('soak')).toEqual(['soak', 'soak, own installations']);
});

it('tells what a Go test that failed has printed, and of no other', () => {
  const event = (Action: string, Test: string, Output?: string) =>
    JSON.stringify({ Action, Package: 'p', Test, Output });
  const lines = [
    'noise',
    event('output', 'TestA', 'a\n'),
    event('output', 'TestB', 'why\n'),
    event('pass', 'TestA'),
    event('fail', 'TestB'),
  ];
  expect(failuresOfGo(lines.join('\n'))).toBe('p TestB\nwhy\n');
  expect(failuresOfGo('')).toBe('');
});
