import type { Command } from 'commander';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Failure } from '@torpor/kernel';
import { runWatched } from '../command.ts';
import { onInterruption } from '../interruption.ts';
import { ensureSetup, type Toolchain } from '../setup/setup.ts';
import { BROUGHT_UP_FILE, leftInstallations } from '../testing/left-installations.ts';
import { runSuite, type Outcome } from '../testing/run-suite.ts';
import { failuresOfGo, suites, type Suite, type Tier } from '../testing/suites.ts';
import { thisInstallation } from '../up/installation.ts';

const PURGE_MS = 12 * 60_000;
const TIERS: readonly Tier[] = ['quick', 'full', 'soak'];

export function addTestCommand(torpor: Command): void {
  torpor
    .command('test')
    .description('run the tests: quick (default), full (default when CI=true), or soak')
    .option('--tier <tier>', `one of: ${TIERS.join(', ')}`)
    .option('--only <words>', 'only suites whose name contains one of these, comma-separated')
    .action(({ tier, only }: { tier?: string; only?: string }) => runTests(tierOf(tier), only?.split(',')));
}

function tierOf(text: string | undefined): Tier {
  if (text === undefined) return process.env.CI === 'true' ? 'full' : 'quick';
  const tier = TIERS.find((name) => name === text);
  if (!tier) throw new Failure('bad_request', `no tier is called "${text}"; expected one of: ${TIERS.join(', ')}`);
  return tier;
}

async function runTests(tier: Tier, only: readonly string[] | undefined): Promise<void> {
  const began = performance.now();
  const tools = await ensureSetup({
    want: tier === 'full' ? ['test', 'earlier-build'] : ['test'],
    out: process.stderr,
  });
  const { go } = tools;
  if (!go) throw new Failure('not_found', 'the tests of guest and hostd need Go, and the set-up found none');
  const { checkout } = thisInstallation();
  const scratch = await mkdtemp(join(tmpdir(), 'torpor-tests-'));
  const broughtUpFile = join(scratch, 'brought-up');
  const env = {
    ...inherited(),
    PATH: [dirname(process.execPath), dirname(go.path), process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin'].join(':'),
    ...go.env,
    CI: process.env.CI ?? '',
    TORPOR_TEST_TIER: tier,
    [BROUGHT_UP_FILE]: broughtUpFile,
    RUNSC: tools.runsc,
    ...(tier === 'full' ? { EARLIER_RUNSC: tools.earlier.runsc, EARLIER_HOSTD: tools.earlier.hostd } : {}),
    TORPOR_NATS_SERVER: tools.natsServer,
  };
  const chosen = suites({ checkout, go: go.path, env, realHost: realHost(tools) }).filter(
    (suite) => suite.tiers.includes(tier) && (!only || only.some((word) => suite.name.includes(word))),
  );
  if (chosen.length === 0) {
    throw new Failure('bad_request', `tier ${tier} has no suite called like ${only?.join(' or ') ?? 'any'}`);
  }
  const interruption = onInterruption('the tests were interrupted');
  const outcomes: Outcome[] = [];
  for (const suite of chosen) {
    if (interruption.signal.aborted) break;
    outcomes.push(await runShown(suite, interruption.signal));
  }
  // A second signal ends us at once.
  if (!process.env.TORPOR_TEST_KEEP) await purgeLeft(broughtUpFile);
  await rm(scratch, { recursive: true });
  interruption.close();
  interruption.signal.throwIfAborted();
  report(outcomes, tier, performance.now() - began);
}

async function runShown(suite: Suite, signal: AbortSignal): Promise<Outcome> {
  process.stdout.write(`\n── ${suite.name}\n`);
  const outcome = await runSuite(suite, { signal, show: (text) => process.stdout.write(text) });
  if (outcome.failed > 0) {
    const said = suite.read === 'go' ? failuresOfGo(outcome.output) : '';
    process.stdout.write(`${said || tail(outcome.output)}\n`);
  }
  process.stdout.write(`   ${summary(outcome)} in ${seconds(outcome.tookMs)}\n`);
  return outcome;
}

/** A suite that was ended in its midst has not cleaned up after itself. */
async function purgeLeft(broughtUpFile: string): Promise<void> {
  const main = join(import.meta.dirname, '../main.ts');
  for (const name of await leftInstallations(broughtUpFile)) {
    process.stdout.write(`\nThe tests have left the installation "${name}".\n`);
    const failure = await runWatched([process.execPath, ...process.execArgv, main, 'down', '--purge'], {
      env: { TORPOR_INSTALLATION: name },
      deadlineMs: PURGE_MS,
      heard: (text) => process.stdout.write(text),
    });
    if (failure) process.stdout.write(`It could not be purged: "torpor down --purge" ${failure}.\n`);
  }
}

/** What the driver's conformance suite needs to run on gVisor as well; without it, it says that it did not. */
function realHost(tools: Toolchain): Record<string, string> {
  const [template] = Object.values(tools.templates);
  return {
    TORPOR_TEST_RUNSC: tools.runsc,
    TORPOR_TEST_HOSTD: tools.hostd,
    TORPOR_TEST_GUEST: tools.guest,
    ...(template ? { TORPOR_TEST_LOWER: template.dir } : {}),
  };
}

function inherited(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}

function report(outcomes: readonly Outcome[], tier: Tier, tookMs: number): void {
  const sum = (pick: (outcome: Outcome) => number) => outcomes.reduce((total, outcome) => total + pick(outcome), 0);
  const [passed, failed, skipped] = [sum((o) => o.passed), sum((o) => o.failed), sum((o) => o.skipped)];
  process.stdout.write(`\n${tier}: ${outcomes.length} suites in ${seconds(tookMs)}\n`);
  for (const outcome of outcomes)
    process.stdout.write(`  ${outcome.name.padEnd(26)} ${summary(outcome).padEnd(34)} ${seconds(outcome.tookMs)}\n`);
  process.stdout.write(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`);
  if (failed > 0 || passed === 0) process.exitCode = 1;
}

function summary({ passed, failed, skipped }: Outcome): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function tail(output: string): string {
  return output.trim().split('\n').slice(-60).join('\n');
}
