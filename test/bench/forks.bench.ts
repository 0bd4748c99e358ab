/**
 * Forks of one sandbox whose program holds incompressible memory: what each takes after the first, which makes the snapshot, and what it costs of disk and RAM.
 * A fork counts as there when its call was answered and its own program has told what its memory is.
 */
import { readFile, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { api } from './lib/api.ts';
import { atLeast, atMost, Figures, median, quantile } from './lib/figures.ts';
import { createOne, deleteMany, putFile, type Made } from './lib/sandboxes.ts';
import { client, expectOk, stackUp } from './lib/stack.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    count: { type: 'string', default: '20' },
    mib: { type: 'string', default: '200' },
  },
});
const COUNT = Number(values.count);
const MIB = Number(values.mib);
const PORT = 3000;
/** A transaction of btrfs is on the disk, and counted, after 30 s at the latest; a sync brings it there now. */
const SETTLE_MS = 2_000;

const PROGRAM = `
import hashlib, http.server, os
memory = os.urandom(${MIB} << 20)
class Tell(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = hashlib.blake2b(memory).hexdigest().encode() if self.path == "/whole" else hashlib.blake2b(memory[:4096]).hexdigest().encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", ${PORT}), Tell).serve_forever()
`;

const stack = await stackUp();
const figures = new Figures('forks');
const dispatcher = client(stack.url);
const calls = api(stack);
const label = `forks-${process.pid}`;
const made: Made[] = [];
try {
  const parent = await createOne(stack, `${label}-parent`, { idle: { kind: 'never' } });
  made.push(parent);
  await putFile(dispatcher, stack, parent, '/blaxel/program.py', PROGRAM);
  await expectOk(dispatcher, `${parent.url}/process`, {
    method: 'POST',
    headers: { ...stack.headers, 'content-type': 'application/json' },
    body: JSON.stringify({ command: 'python3 program.py', name: 'program', waitForPorts: [PORT] }),
  });
  const whole = await told(parent, '/whole');
  const [part, atRest] = [await told(parent, '/'), { disk: await poolFreeMib(), ram: await availableMib() }];

  const first = await timed(() => fork(0));
  const { snapshot } = first.result;
  const before = { disk: await poolFreeMib(), ram: await availableMib() };
  const times: number[] = [];
  let same = (await told(first.result.made, '/')) === part ? 1 : 0;
  for (let n = 1; n < COUNT; n++) {
    const one = await timed(async () => {
      const { made: child } = await fork(n, snapshot);
      return await told(child, '/');
    });
    times.push(one.tookMs);
    if (one.result === part) same += 1;
  }
  const end = { disk: await poolFreeMib(), ram: await availableMib() };
  const marks = await Promise.all(made.map(marksOf));

  figures.add('the first fork, with its snapshot', { value: first.tookMs, unit: 'ms' });
  figures.add(`each of the next ${COUNT - 1}, p50`, { value: median(times), unit: 'ms', goal: atMost(250) });
  figures.add(`each of the next ${COUNT - 1}, p99`, { value: quantile(times, 0.99), unit: 'ms' });
  figures.add(`the snapshot takes of the disk, of ${MIB} MiB`, { value: atRest.disk - before.disk, unit: 'MiB' });
  figures.add('each fork takes of the disk besides', {
    value: ((before.disk - end.disk) / times.length / MIB) * 100,
    unit: '%',
    goal: atMost(5),
  });
  figures.add('each fork takes of the RAM', { value: (before.ram - end.ram) / times.length, unit: 'MiB' });
  figures.add('forks with the memory of their parent', { value: same, unit: `of ${COUNT}`, goal: atLeast(COUNT) });
  for (const [at, what] of ['host names', 'machine ids'].entries()) {
    const different = new Set(marks.map((each) => each[at])).size;
    figures.add(`different ${what}`, { value: different, unit: `of ${COUNT + 1}`, goal: atLeast(COUNT + 1) });
  }
  const greater = marks.slice(1).filter((each) => Number(each[2]) > Number(marks[0]?.[2])).length;
  figures.add('forks of a greater generation', { value: greater, unit: `of ${COUNT}`, goal: atLeast(COUNT) });
  const untouched = (await told(parent, '/whole')) === whole ? 1 : 0;
  figures.add('the parent is as it was', { value: untouched, unit: 'of 1', goal: atLeast(1) });
} finally {
  await deleteMany(stack, made);
}
figures.report(values.json);
process.exit();

async function fork(n: number, snapshot?: string): Promise<{ snapshot: string; made: Made }> {
  const name = `${label}-${n}`;
  const { forks, failed, ...rest } = await calls.fork(`${label}-parent`, {
    as: name,
    count: 1,
    ...(snapshot === undefined ? {} : { snapshot }),
  });
  const [child] = forks;
  if (!child) throw new Error(`${name} could not be made: ${JSON.stringify(failed)}`);
  const one = { name, url: child.url, hostId: child.hostId ?? '' };
  made.push(one);
  return { snapshot: rest.snapshot, made: one };
}

async function told({ url }: Made, path: string): Promise<string> {
  return (await expectOk(dispatcher, `${url}/port/${PORT}${path}`, { headers: { ...stack.headers } })).body.toString();
}

async function marksOf(one: Made): Promise<string[]> {
  const answer = await expectOk(dispatcher, `${one.url}/process`, {
    method: 'POST',
    headers: { ...stack.headers, 'content-type': 'application/json' },
    body: JSON.stringify({
      command: `sh -c 'echo "$(hostname) id$(cat /etc/machine-id) $(cat /run/torpor/generation)"'`,
      waitForCompletion: true,
    }),
  });
  const { stdout = '' } = JSON.parse(answer.body.toString()) as { stdout?: string }; // the dialect's own shape
  return stdout.trim().split(' ');
}

async function timed<T>(work: () => Promise<T>): Promise<{ result: T; tookMs: number }> {
  const since = performance.now();
  const result = await work();
  return { result, tookMs: performance.now() - since };
}

async function poolFreeMib(): Promise<number> {
  await after(SETTLE_MS);
  const { bfree, bsize } = await statfs(join(stack.stateDir, 'pool'));
  return (bfree * bsize) / 2 ** 20;
}

async function availableMib(): Promise<number> {
  const line = /^MemAvailable:\s+(\d+) kB$/m.exec(await readFile('/proc/meminfo', 'utf8'))?.[1];
  return Number(line) / 1024;
}
