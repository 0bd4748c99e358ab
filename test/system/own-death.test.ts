/** A sandbox dies of what runs in it, long after its last image was made: its files stay as they were then, and the image can be gone back to. */
import { afterEach, beforeAll, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { createOne, deleteMany, type Made } from '../bench/lib/sandboxes.ts';
import type { Stack } from '../bench/lib/stack.ts';
import { ask, sh } from './inside.ts';
import { reportOf, store } from './node-calls.ts';
import { freshName, testStack } from './test-stack.ts';
import { until } from './until.ts';

const PATIENCE_MS = 60_000;

/** What lies unread in sockets is in gVisor's own memory: the kernel, short of it, ends all. A program's own memory would cost that program alone. */
const FILLS_GVISOR = `
import socket
kept = []
while True:
    here, there = socket.socketpair()
    kept.append((here, there))
    here.setblocking(False)
    try:
        while True: here.send(bytes(65536))
    except BlockingIOError: pass
`;

let stack: Stack;
const made: Made[] = [];

beforeAll(async () => {
  stack = await testStack();
});

afterEach(() => deleteMany(stack, made.splice(0)));

it.for([
  { of: 'its memory', by: `python3 -c '${FILLS_GVISOR}'`, says: /want of memory/ },
  { of: 'its first process', by: 'kill -9 1', says: /first process ended|guest is gone/ },
])('of $of', async ({ by, says }) => {
  const sandbox = await createOne(stack, freshName('dies'), { idle: { kind: 'never' }, memoryMib: 256 });
  made.push(sandbox);
  await sh(stack, sandbox, 'echo first | tee /root/file /dev/shm/file');
  expect(await store(stack, sandbox.name)).toBe('stored');
  await sh(stack, sandbox, 'echo second | tee /root/file /dev/shm/file');
  void ask(stack, sandbox, by).catch(() => undefined); // nobody is left to answer
  const told = () => reportOf(stack, sandbox.name);
  await until(
    'it is said to be dead',
    PATIENCE_MS,
    async () => (await told()).tier === 'files',
    async () => JSON.stringify(await told()),
  );
  expect((await told()).reason).toMatch(says);

  expect((await sh(stack, sandbox, 'cat /root/file /dev/shm/file')).stdout).toBe('second\n');
  expect((await told()).lost).toMatchObject({ to: 'files', reason: expect.stringMatching(says) });
  const [snapshot] = await api(stack).snapshots(sandbox.name);
  expect(snapshot).toMatchObject({ because: 'death', state: 'ready' });
  await api(stack).restore(sandbox.name, snapshot?.id ?? '');
  expect((await sh(stack, sandbox, 'cat /root/file /dev/shm/file')).stdout).toBe('first\nfirst\n');
});
