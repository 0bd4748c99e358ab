/** Wakes that must not pass for whole: a process that was killed, a listener that is closed, a byte of the image that was flipped. Each is signed, told and counted. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { nodeMetric } from '../bench/lib/observe.ts';
import { createOne, deleteMany, putFile, type Made } from '../bench/lib/sandboxes.ts';
import { patient, torpor, type Stack } from '../bench/lib/stack.ts';
import { sh, start } from './inside.ts';
import { reportOf, store } from './node-calls.ts';
import { freshName, testEnv, testStack } from './test-stack.ts';
import { until } from './until.ts';

const PATIENCE_MS = 60_000;
/** What the program inside takes for a sleep: more than a busy machine keeps it waiting. */
const JUMP_S = 4;
const TRIES = 5;
const PROGRAM = '/blaxel/harm.py';

/**
 * Does harm in the instant in which it runs again: it looks at the clock without a pause. By a system call: with `time.time()` half of all tries came too
 * late, and why was not found. Harm that comes after the check is none of the wake's, so now and then it takes another try all the same.
 */
const harmful = (prepare: string, harm: string) => `
import ctypes, os, platform, signal, socket, time
libc, now = ctypes.CDLL(None), (ctypes.c_long * 2)()
clock_gettime = {"x86_64": 228, "aarch64": 113}[platform.machine()]
def clock():
    libc.syscall(clock_gettime, time.CLOCK_REALTIME, now)
    return now[0]
${prepare}
open("/tmp/ready", "w").close()
last = clock()
while clock() - last < ${JUMP_S}: last = now[0]
${harm}
while True: time.sleep(3600)
`;
// Whichever of four is first.
const KILLS = harmful(
  'victim = int(os.popen("pgrep -x sleep").read()); os.fork(); os.fork()',
  'try: os.kill(victim, signal.SIGKILL)\nexcept ProcessLookupError: pass',
);
const CLOSES = harmful('listener = socket.create_server(("127.0.0.1", 3000))', 'listener.close()');

interface Receipt {
  readonly verdict: string;
  readonly checks: readonly { readonly what: string; readonly outcome: string; readonly found: string }[];
  readonly refused: readonly { readonly image: string; readonly reason: string }[];
  readonly lost?: string;
}

let stack: Stack;
const made: Made[] = [];

beforeAll(async () => {
  stack = await testStack();
});

afterEach(() => deleteMany(stack, made.splice(0)));

async function sandboxOf(label: string): Promise<Made> {
  const sandbox = await createOne(stack, freshName(label), { idle: { kind: 'never' }, memoryMib: 512 });
  made.push(sandbox);
  return sandbox;
}

/** `hasOlder`: an image before the one that it wakes from, which it could fall back to. */
async function wakesHarmed(program: string, hasOlder: boolean): Promise<Made> {
  const sandbox = await sandboxOf('harmed');
  if (hasOlder) expect(await store(stack, sandbox.name)).toBe('stored');
  await start(stack, sandbox, 'victim', 'exec sleep 1000000');
  await putFile(patient, stack, sandbox, PROGRAM, program);
  await start(stack, sandbox, 'harm', `exec python3 ${PROGRAM}`);
  await until('it watches', PATIENCE_MS, async () => (await sh(stack, sandbox, 'ls /tmp/ready')).exitCode === 0);
  expect(await store(stack, sandbox.name)).toBe('stored');
  await after((JUMP_S + 1) * 1_000); // it must have slept for that long
  await sh(stack, sandbox, 'true');
  return sandbox;
}

async function untilFlawed(program: string, hasOlder: boolean) {
  for (let tries = 1; ; tries++) {
    const before = { counted: await counted('flawed'), stats: await stats() };
    const sandbox = await wakesHarmed(program, hasOlder);
    const told = { before, sandbox, ...(await receiptOf(sandbox)) };
    if (told.receipt.verdict === 'flawed' || tries === TRIES) return told;
  }
}

/** The command ends with another code than 0 when a wake was not whole. */
async function receiptOf({ name }: Made): Promise<{ code: number; receipt: Receipt }> {
  const listing = torpor(['receipt', 'list', name, '--json'], testEnv).then((stdout) => ({ code: 0, stdout }));
  const listed = await listing.catch((error: unknown) => error);
  const { code, stdout } = listed as { code: number; stdout: string }; // as execFile rejects
  const { signed } = (JSON.parse(stdout) as { signed: string }[]).at(-1) ?? { signed: '{}' };
  return { code, receipt: JSON.parse(signed) as Receipt };
}

async function counted(to: string): Promise<{ lost: number; wakes: number }> {
  const ofTier = (tier: string) =>
    nodeMetric(stack, new RegExp(`^torpor_wakes_total\\{tier="${tier}"\\} (\\S+)$`, 'm'));
  return {
    lost: await nodeMetric(stack, new RegExp(`^torpor_lost_state_total\\{to="${to}"\\} (\\d+)$`, 'm')),
    wakes: (await ofTier('stored')) + (await ofTier('files')),
  };
}

/** What the workspace is told; it is booked a while later. */
async function stats(): Promise<{ all: number; lost: number }> {
  const { wakes } = JSON.parse(await torpor(['stats', '--json'], testEnv)) as { wakes: { all: number; lost: number } };
  return wakes;
}

async function expectCounted(
  before: { counted: { lost: number; wakes: number }; stats: { all: number; lost: number } },
  { to, wakes }: { to: string; wakes: number },
): Promise<void> {
  expect(await counted(to)).toEqual({ lost: before.counted.lost + 1, wakes: before.counted.wakes + wakes });
  let told = before.stats;
  await until(
    'it is booked',
    PATIENCE_MS,
    async () => (told = await stats()).lost > before.stats.lost,
    () => JSON.stringify(told),
  );
  expect(told.lost).toBe(before.stats.lost + 1);
  expect(told.all).toBeGreaterThanOrEqual(before.stats.all + wakes);
}

it.for([
  { what: 'processes', program: KILLS, hasOlder: false, says: /"victim" was killed at the wake \(exit code 137\)/ },
  { what: 'listeners', program: CLOSES, hasOlder: true, says: /nothing listens at 127\.0\.0\.1:3000 any more/ },
])(
  'a wake after which $what are wanting is flawed, and counted; older image: $hasOlder',
  async ({ what, program, hasOlder, says }) => {
    const { before, sandbox, code, receipt } = await untilFlawed(program, hasOlder);
    expect([code === 0, receipt.verdict], JSON.stringify(receipt.checks)).toEqual([false, 'flawed']);
    expect(receipt.checks.filter(({ outcome }) => outcome === 'failed')).toEqual([
      { what, outcome: 'failed', found: expect.stringMatching(says) },
    ]);
    expect(receipt.refused).toEqual([]);
    expect((await reportOf(stack, sandbox.name)).lost).toMatchObject({ to: 'flawed', reason: receipt.lost });
    await expectCounted(before, { to: 'flawed', wakes: hasOlder ? 2 : 1 });
  },
);

it('a wake from an image of which a byte was flipped falls back to the one before, and is counted', async () => {
  const before = { counted: await counted('image'), stats: await stats() };
  const sandbox = await sandboxOf('flipped');
  await sh(stack, sandbox, 'echo first > /dev/shm/file');
  expect(await store(stack, sandbox.name)).toBe('stored');
  await sh(stack, sandbox, 'echo second > /dev/shm/file');
  expect(await store(stack, sandbox.name)).toBe('stored');
  const newest = `${sandbox.hostId}-2`;
  await flipByte(join(stack.stateDir, 'pool/m', newest, 'pages.img'));
  expect((await sh(stack, sandbox, 'cat /dev/shm/file')).stdout).toBe('first\n');
  const { code, receipt } = await receiptOf(sandbox);
  expect([code === 0, receipt.verdict]).toEqual([false, 'fell back']);
  expect(receipt.refused).toEqual([{ image: newest, reason: expect.any(String) }]);
  await expectCounted(before, { to: 'image', wakes: 2 });
});

async function flipByte(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const middle = Math.floor((await file.stat()).size / 2);
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, middle);
    await file.write(Buffer.from([(buffer[0] ?? 0) ^ 1]), 0, 1, middle);
  } finally {
    await file.close();
  }
}
