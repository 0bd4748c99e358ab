/** An image whose guest never answers again: whoever is root inside has stopped it, and it was stored like that. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createOne, deleteMany, type Made } from '../bench/lib/sandboxes.ts';
import { patient, timed, torpor, type Stack } from '../bench/lib/stack.ts';
import { ask, sh } from './inside.ts';
import { reportOf, store } from './node-calls.ts';
import { freshName, isFull, testEnv, testStack } from './test-stack.ts';
import { until } from './until.ts';

/** Two restores that wait 20 s each for an answer, and a fresh sandbox beside the last. */
const GIVEN_UP_MS = 120_000;
const SILENT_MS = 20_000;

let stack: Stack;
let sandbox: Made;

beforeAll(async () => {
  stack = await testStack();
  sandbox = await createOne(stack, freshName('silent'), { idle: { kind: 'never' }, memoryMib: 512 });
});

afterAll(() => deleteMany(stack, [sandbox]));

async function isSilent(): Promise<boolean> {
  const signal = AbortSignal.timeout(2_000);
  const headers = { ...stack.headers };
  const asked = fetch(`${sandbox.url}/process`, { headers, signal });
  return asked.then(
    () => false,
    () => true,
  );
}

async function isAwake(): Promise<boolean> {
  await timed(patient, `${sandbox.url}/process`, { headers: { ...stack.headers } });
  return (await reportOf(stack, sandbox.name)).state === 'running';
}

it.runIf(isFull)(
  'gives way to the image before it; that is told, and it is kept',
  { timeout: 2 * GIVEN_UP_MS },
  async () => {
    await sh(stack, sandbox, 'echo first > /root/file; echo first > /dev/shm/file');
    expect(await store(stack, sandbox.name)).toBe('stored');
    await sh(stack, sandbox, 'echo second > /root/file; echo second > /dev/shm/file');
    void ask(stack, sandbox, 'kill -STOP 1').catch(() => undefined); // which nobody is left to answer
    await until('the guest says nothing', SILENT_MS, isSilent);
    expect(await store(stack, sandbox.name)).toBe('stored');

    await until('it is awake again', GIVEN_UP_MS, isAwake, async () =>
      JSON.stringify(await reportOf(stack, sandbox.name)),
    );
    expect((await sh(stack, sandbox, 'cat /root/file /dev/shm/file')).stdout).toBe('first\nfirst\n');
    const reason = expect.stringMatching(/a fresh sandbox beside it answered/);
    expect((await reportOf(stack, sandbox.name)).lost).toMatchObject({ to: 'image', reason });
    // It ends with another code than 0 when a wake has lost something.
    const listed = torpor(['receipt', 'list', sandbox.name, '--json'], testEnv);
    const { stdout } = (await listed.catch((error: unknown) => error)) as { stdout: string }; // as execFile rejects
    const receipt = (JSON.parse(stdout) as { signed: string }[]).at(-1);
    const { verdict, refused } = JSON.parse(receipt?.signed ?? '{}') as {
      verdict: string;
      refused: { image: string }[];
    };
    expect([verdict, refused.length]).toEqual(['fell back', 1]);
    expect(await readdir(join(stack.stateDir, 'pool', 'm'))).toContain(refused[0]?.image);
  },
);
