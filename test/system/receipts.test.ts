/** What a user is told of sleep on the disk: by the command line, in the answers, by the receipt of each wake, and as the dialect's archive. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { nodeMetric } from '../bench/lib/observe.ts';
import { createOne, deleteMany, type Made } from '../bench/lib/sandboxes.ts';
import { loadBlaxel, patient, timed, torpor, type Answer, type Stack } from '../bench/lib/stack.ts';
import { start } from './inside.ts';
import { freshName, testEnv, testStack } from './test-stack.ts';
import { until } from './until.ts';

const PATIENCE_MS = 60_000;
const SERVER = 'exec python3 -m http.server 3000 --directory /tmp';

let stack: Stack;
let sandbox: Made;
let dir: string;

beforeAll(async () => {
  stack = await testStack();
  dir = await mkdtemp(join(tmpdir(), 'torpor-receipts-'));
  sandbox = await createOne(stack, freshName('receipt'), { idle: { kind: 'never' }, memoryMib: 512 });
  await start(stack, sandbox, 'web', SERVER);
  await until('the server listens', PATIENCE_MS, () => serves());
});

afterAll(async () => {
  await deleteMany(stack, [sandbox]);
  await rm(dir, { recursive: true, force: true });
});

async function serves(): Promise<boolean> {
  return (await askServer()).status === 200;
}

function askServer(): Promise<Answer> {
  return timed(patient, `${sandbox.url}/port/3000/`, { headers: { ...stack.headers } });
}

/** Its output, and the exit code that it ended with. */
async function cli(...args: string[]): Promise<{ code: number; stdout: string }> {
  try {
    return { code: 0, stdout: await torpor(args, testEnv) };
  } catch (error) {
    const { code, stdout } = error as { code?: number; stdout?: string }; // as execFile rejects
    if (typeof code !== 'number') throw error;
    return { code, stdout: stdout ?? '' };
  }
}

it('is stored by command, told as stored, woken by a request, and signed for', async () => {
  const wakesBefore = await wakes();
  expect(await cli('sandbox', 'store', sandbox.name)).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/is stored/),
  });
  const asleep = await cli('sandbox', 'get', sandbox.name);
  expect(asleep.stdout).toMatch(/^tier +stored$/m);
  expect(asleep.stdout).toMatch(/^wakes from disk +no wake measured yet$/m);
  expect(asleep.stdout).toMatch(/^images on disk +\d/m);
  expect((await cli('sandbox', 'list')).stdout).toMatch(new RegExp(`${sandbox.name} +stored +stored +not measured`));

  const woke = await askServer();
  expect([woke.status, woke.headers['server-timing']]).toEqual([
    200,
    expect.stringMatching(/^wake;desc="stored";dur=\d/),
  ]);
  expect((await cli('sandbox', 'get', sandbox.name)).stdout).toMatch(/^wakes from disk +the last took \d/m);
  expect(await wakes()).toBe(wakesBefore + 1);

  const listed = await cli('receipt', 'list', sandbox.name, '--json');
  expect(listed.code).toBe(0);
  const [receipt] = JSON.parse(listed.stdout) as { signed: string }[];
  expect(JSON.parse(receipt?.signed ?? '')).toMatchObject({
    name: sandbox.name,
    tier: 'stored',
    verdict: 'whole',
    refused: [],
    checks: [
      { what: 'processes', outcome: 'passed', found: '1 of 1 run' },
      { what: 'listeners', outcome: 'passed', found: '1 of 1 listen' },
      { what: 'generation', outcome: 'passed' },
      { what: 'clock', outcome: 'passed' },
    ],
  });
});

it('a receipt is verified by the stack that gave it, and one that was changed is not', async () => {
  const file = join(dir, 'receipts.json');
  await writeFile(file, (await cli('receipt', 'list', sandbox.name, '--json')).stdout);
  expect(await cli('receipt', 'verify', file)).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^signed by the node/),
  });
  const changed = (await readFile(file, 'utf8')).replaceAll('1 of 1 run', '9 of 9 run');
  await writeFile(file, changed);
  expect((await cli('receipt', 'verify', file)).code).toBe(1);
});

it('is archived and brought back by the dialect, with all that ran', async () => {
  const blaxel = await loadBlaxel(stack);
  const box = await blaxel.SandboxInstance.get(sandbox.name);
  expect((await box.archive({ interval: 200 })).status).toBe('ARCHIVED');
  expect((await api(stack).get(sandbox.name)).state).toBe('stored');
  expect((await box.unarchive({ interval: 200 })).status).toBe('DEPLOYED');
  expect((await box.process.get('web')).status).toBe('running');
  expect(await serves()).toBe(true);
});

async function wakes(): Promise<number> {
  return await nodeMetric(stack, /^torpor_wakes_total\{tier="stored"\} (\S+)$/m);
}
