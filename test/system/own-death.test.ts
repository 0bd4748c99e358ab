/**
 * A sandbox dies long after its last image was made. Of what runs in it: its files stay as they were then, and the image can be gone back to. Of gVisor's
 * own end: it goes back to the image, and its files as they were then can be gone back to.
 */
import { join } from 'node:path';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { createOne, deleteMany, type Made } from '../bench/lib/sandboxes.ts';
import type { Stack } from '../bench/lib/stack.ts';
import { namesIn } from './host-sets.ts';
import { ask, sh } from './inside.ts';
import { reportOf, store } from './node-calls.ts';
import { naming } from './processes.ts';
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

it('of gVisor, and its disk as at death is a snapshot', async () => {
  const sandbox = await createOne(stack, freshName('dies'), { idle: { kind: 'never' }, memoryMib: 256 });
  made.push(sandbox);
  const read = async (of = sandbox) => (await sh(stack, of, 'cat /root/file /dev/shm/file')).stdout;
  await sh(stack, sandbox, 'echo first | tee /root/file /dev/shm/file');
  expect(await store(stack, sandbox.name)).toBe('stored');
  await sh(stack, sandbox, 'echo second | tee /root/file /dev/shm/file');
  for (const { pid } of await naming(sandbox.hostId)) process.kill(pid, 'SIGKILL');
  await until(
    'it is said to be dead',
    PATIENCE_MS,
    async () => (await reportOf(stack, sandbox.name)).tier === 'stored',
  );

  expect(await read()).toBe('first\nfirst\n');
  const aside = (await api(stack).snapshots(sandbox.name)).find(({ because }) => because === 'fall-back');
  expect(aside).toMatchObject({ state: 'ready', name: expect.stringMatching(/^disk-at-death-/) });
  const { lost } = await reportOf(stack, sandbox.name);
  expect(lost).toMatchObject({ to: 'image', reason: expect.stringContaining(aside?.name ?? '') });
  const history = await api(stack).history(sandbox.name);
  expect(history.find(({ id }) => id === aside?.id)?.told).toContain('put aside');

  const { forks } = await api(stack).fork(sandbox.name, {
    as: freshName('saved'),
    count: 1,
    snapshot: aside?.name ?? '',
  });
  const saved = forks.map(({ name, url, hostId = '' }) => ({ name, url, hostId }));
  made.push(...saved);
  expect(await read(saved[0])).toBe('second\n');
  const { before } = await api(stack).restore(sandbox.name, aside?.name ?? '');
  expect(await read()).toBe('second\n');
  await api(stack).restore(sandbox.name, before?.id ?? '');
  expect(await read()).toBe('first\nfirst\n');
  await api(stack).deleteSnapshot(sandbox.name, aside?.id ?? '');
  expect(await namesIn(join(stack.stateDir, 'pool/s'))).not.toContain(aside?.id);
});
