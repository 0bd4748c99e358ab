/** Many sleeping sandboxes: what each holds of RAM, what all together use of CPU, and whether one still wakes as quickly as when there are few. */
import { setTimeout as after } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { api } from './lib/api.ts';
import { atMost, Figures, median } from './lib/figures.ts';
import { cpuUsageNs, isFrozen, memoryBytes } from './lib/host.ts';
import { createOne, deleteMany, fileUrl, putFile, type Made } from './lib/sandboxes.ts';
import { client, expectOk, stackUp } from './lib/stack.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    count: { type: 'string', default: '300' },
    seconds: { type: 'string', default: '60' },
  },
});
const COUNT = Number(values.count);
const FEW = 10;
const BUSY = `python3 -c "import http.server,threading,time
def loop():
    while True: time.sleep(0.01)
threading.Thread(target=loop,daemon=True).start()
http.server.HTTPServer(('0.0.0.0',3000),http.server.SimpleHTTPRequestHandler).serve_forever()"`;

const stack = await stackUp();
const figures = new Figures('density');
const dispatcher = client(stack.url);
const calls = api(stack);
const made: Made[] = [];
try {
  while (made.length < FEW) made.push(await makeOne(made.length));
  const few = await wakes(made);
  while (made.length < COUNT) made.push(await makeOne(made.length));
  for (const { name } of made) await calls.pause(name);
  const frozen = (await Promise.all(made.map(({ hostId }) => isFrozen(stack.scope, hostId)))).filter(Boolean).length;
  const before = await totalCpuMs();
  await after(Number(values.seconds) * 1000);
  const used = ((await totalCpuMs()) - before) * (60 / Number(values.seconds));
  const memory = await Promise.all(made.map(({ hostId }) => memoryBytes(stack.scope, hostId)));
  const many = await wakes(made.slice(0, FEW));
  const third = memory.filter((_, n) => n % 3 === 0);
  const plain = memory.filter((_, n) => n % 3 !== 0);
  figures.add('sleeping sandboxes', { value: frozen, unit: `of ${COUNT}`, goal: { kind: 'at least', than: COUNT } });
  figures.add('RAM of one that runs only the guest, p50', { value: median(plain) / 2 ** 20, unit: 'MiB' });
  figures.add('RAM of one with timer loop and server, p50', { value: median(third) / 2 ** 20, unit: 'MiB' });
  figures.add('RAM of all', { value: memory.reduce((sum, bytes) => sum + bytes, 0) / 2 ** 20, unit: 'MiB' });
  figures.add('CPU of all, per minute asleep', { value: used, unit: 'ms', goal: atMost(10) });
  figures.add(`wake p50 with ${COUNT}`, { value: median(many), unit: 'ms', floor: median(few) });
  figures.add(`wake p50 with ${COUNT} over with ${FEW}`, {
    value: median(many) / median(few),
    unit: '×',
    goal: atMost(1.3),
  });
} finally {
  await deleteMany(stack, made);
}
figures.report(values.json);
process.exit();

async function makeOne(n: number): Promise<Made> {
  const one = await createOne(stack, `density-${process.pid}-${n}`, { idle: { kind: 'never' } });
  await putFile(dispatcher, stack, one, '/dev/shm/probe', 'x');
  if (n % 3 === 0) {
    await expectOk(dispatcher, `${one.url}/process`, {
      method: 'POST',
      headers: { ...stack.headers, 'content-type': 'application/json' },
      body: JSON.stringify({ command: BUSY, name: 'busy', waitForPorts: [3000] }),
    });
  }
  await calls.pause(one.name);
  return one;
}

async function wakes(of: readonly Made[]): Promise<number[]> {
  const times: number[] = [];
  for (let turn = 0; turn < 20; turn++) {
    for (const each of of) {
      await calls.pause(each.name);
      times.push(
        (
          await expectOk(dispatcher, fileUrl(stack, each, '/dev/shm/probe'), {
            headers: { ...stack.headers, accept: 'application/octet-stream' },
          })
        ).tookMs,
      );
    }
  }
  for (const each of of) await calls.pause(each.name);
  return times;
}

async function totalCpuMs(): Promise<number> {
  const each = await Promise.all(made.map(({ hostId }) => cpuUsageNs(stack.scope, hostId)));
  return each.reduce((sum, ns) => sum + ns, 0) / 1e6;
}
