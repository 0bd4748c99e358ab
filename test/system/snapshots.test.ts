/** Snapshots and forks of a sandbox whose memory, processes and files are known, on the true stack. */
import { Receipt } from '@torpor/contracts';
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { createOne, deleteMany, putFile, type Made } from '../bench/lib/sandboxes.ts';
import { client, expectOk, type Stack } from '../bench/lib/stack.ts';
import { sh, start } from './inside.ts';
import { freshName, isFull, testStack } from './test-stack.ts';
import { until } from './until.ts';

const FORKS = isFull ? 20 : 4;
const PATIENCE_MS = 60_000;

/** Random memory, which a request changes, and a child. */
const PROGRAM = `
import hashlib, http.server, json, os, subprocess
memory = bytearray(os.urandom(64 << 20))
child = subprocess.Popen(["sleep", "100000"])
class Tell(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/change": memory[0:16] = os.urandom(16)
        body = json.dumps({"memory": hashlib.sha256(memory).hexdigest(), "pid": os.getpid(), "child": child.poll() is None})
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body.encode())
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Tell).serve_forever()
`;

let stack: Stack;
let parent: Made;
let made: Made[];

beforeAll(async () => {
  stack = await testStack();
  parent = await createOne(stack, freshName('parent'), { idle: { kind: 'never' } });
  made = [parent];
  await putFile(client(stack.url), stack, parent, '/blaxel/program.py', PROGRAM);
  await putFile(client(stack.url), stack, parent, '/blaxel/file', 'first');
  await start(stack, parent, 'program', 'python3 program.py');
  await until('the program listens', PATIENCE_MS, () =>
    ask(parent, '/').then(
      () => true,
      () => false,
    ),
  );
});

afterAll(() => deleteMany(stack, made));

async function ask(sandbox: Made, path: string): Promise<unknown> {
  const answer = await expectOk(client(stack.url), `${sandbox.url}/port/3000${path}`, {
    headers: { ...stack.headers },
  });
  return JSON.parse(answer.body.toString());
}

async function receiptsOf({ name }: Made): Promise<Receipt[]> {
  return (await api(stack).receipts(name)).map(({ signed }) => Receipt.parse(JSON.parse(signed)));
}

async function poolFreeMib(): Promise<number> {
  const { bfree, bsize } = await statfs(join(stack.stateDir, 'pool'));
  return (bfree * bsize) / 2 ** 20;
}

const read = async (sandbox: Made, path: string) => (await sh(stack, sandbox, `cat ${path}`)).stdout.trim();

it('goes back to a snapshot with memory, processes and files, and forth again', { timeout: 300_000 }, async () => {
  const { snapshot, restore, snapshots, deleteSnapshot } = api(stack);
  const first = await ask(parent, '/');
  expect(await snapshot(parent.name, 'then')).toMatchObject({ name: 'then', state: 'ready' });
  expect(await ask(parent, '/')).toEqual(first);
  const second = await ask(parent, '/change');
  await sh(stack, parent, 'echo second > /blaxel/file');
  const { before } = await restore(parent.name, 'then');
  expect([await ask(parent, '/'), await read(parent, '/blaxel/file')]).toEqual([first, 'first']);
  expect([(await api(stack).get(parent.name)).generation, await read(parent, '/run/torpor/generation')]).toEqual([
    2,
    '2',
  ]);
  expect((await receiptsOf(parent)).at(-1)).toMatchObject({ cause: 'restore', verdict: 'whole', generation: 2 });
  await restore(parent.name, before?.id ?? '');
  expect([await ask(parent, '/'), await read(parent, '/blaxel/file')]).toEqual([second, 'second']);
  await api(stack).pause(parent.name);
  await snapshot(parent.name, 'asleep');
  expect((await api(stack).get(parent.name)).state).toBe('paused');
  await restore(parent.name, 'asleep');
  expect([await ask(parent, '/'), await read(parent, '/blaxel/file')]).toEqual([second, 'second']);
  await deleteSnapshot(parent.name, 'then');
  expect((await snapshots(parent.name)).map(({ name }) => name)).not.toContain('then');
});

it(`makes ${FORKS} forks, each a machine of its own, and leaves their parent alone`, { timeout: 300_000 }, async () => {
  const before = await ask(parent, '/');
  const { forks, failed } = await api(stack).fork(parent.name, { as: freshName('fork'), count: FORKS });
  made.push(...forks.map(({ name, url, hostId = '' }) => ({ name, url, hostId })));
  expect([forks.length, failed]).toEqual([FORKS, []]);
  const own = new Map<string, Set<string>>();
  for (const sandbox of made) {
    expect([sandbox.name, await ask(sandbox, '/')]).toEqual([sandbox.name, before]);
    const marks = {
      hostname: await read(sandbox, '/proc/sys/kernel/hostname'),
      machine: await read(sandbox, '/etc/machine-id').catch(() => ''),
      nameserver: await read(sandbox, '/etc/resolv.conf'),
    };
    for (const [what, mark] of Object.entries(marks)) own.set(what, (own.get(what) ?? new Set()).add(mark));
    if (sandbox !== parent) {
      const { generation } = await api(stack).get(sandbox.name);
      expect(await read(sandbox, '/run/torpor/generation')).toBe(`${generation}`);
      expect(await receiptsOf(sandbox)).toMatchObject([{ cause: 'fork', verdict: 'whole', generation }]);
    }
    await sh(stack, sandbox, `echo ${sandbox.name} > /blaxel/file`);
    await ask(sandbox, '/change');
  }
  for (const [what, marks] of own) expect([what, marks.size]).toEqual([what, FORKS + 1]);
  const memories = new Set<string>();
  for (const sandbox of made) {
    expect(await read(sandbox, '/blaxel/file')).toBe(sandbox.name);
    memories.add(JSON.stringify(await ask(sandbox, '/')));
  }
  expect(memories.size).toBe(FORKS + 1);
});

it('makes forks that sleep, wake, and outlive their parent', { timeout: 300_000 }, async () => {
  const [, fork] = made;
  if (!fork) throw new Error('there is no fork');
  const before = await ask(fork, '/');
  const { id } = await api(stack).snapshot(parent.name, 'last');
  const history = await api(stack).history(parent.name);
  expect(history.map(({ what }) => what)).toEqual(expect.arrayContaining(['created', 'woke', 'restored', 'fork']));
  expect(history.find((point) => point.id === id)).toMatchObject({ what: 'snapshot' });
  const whole = await ask(parent, '/');
  await api(stack).delete(parent.name, { keepSnapshots: true });
  made = made.filter((one) => one !== parent);
  const again = await api(stack).fork(undefined, { as: freshName('again'), count: 1, snapshot: id });
  made.push(...again.forks.map(({ name, url, hostId = '' }) => ({ name, url, hostId })));
  for (const { name, url } of again.forks) expect(await ask({ name, url, hostId: '' }, '/')).toEqual(whole);
  const freeMib = await poolFreeMib();
  await api(stack).deleteSnapshot(undefined, id);
  await until('the space of the snapshot is free', PATIENCE_MS, async () => (await poolFreeMib()) - freeMib > 60);
  await api(stack).pause(fork.name);
  expect(await ask(fork, '/')).toEqual(before);
  await api(stack).snapshot(fork.name, 'own');
  await ask(fork, '/change');
  await api(stack).restore(fork.name, 'own');
  expect(await ask(fork, '/')).toEqual(before);
});
