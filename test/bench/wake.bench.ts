/**
 * 500 wakes by a file read through the gateway, beside the same read on running sandboxes. The file lies on the sandbox's own tmpfs, so nothing but
 * the sandbox can answer. Before each request the kernel says FROZEN, after it not. 450 were put to sleep by command, 50 fell asleep by policy.
 */
import { setTimeout as after } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { api } from './lib/api.ts';
import { censusCost } from './lib/census.ts';
import { atMost, Figures, median, quantile } from './lib/figures.ts';
import { isFrozen } from './lib/host.ts';
import { load } from './lib/load.ts';
import { eventLoopDelays } from './lib/observe.ts';
import { client, expectOk, stackUp, type Stack } from './lib/stack.ts';
import { createMany, deleteMany, fileUrl, putFile, type Made } from './lib/sandboxes.ts';

const { values } = parseArgs({
  options: { json: { type: 'boolean', default: false }, wakes: { type: 'string', default: '500' } },
});
const WAKES = Number(values.wakes);
const BY_POLICY = Math.round(WAKES / 10);
const FILE = '/dev/shm/probe';

const stack = await stackUp();
const figures = new Figures('wake');
await eventLoopDelays(stack); // the first look sets the delays back

const idle = await series(stack, 'idle');
figures.add('running: file read p50', { value: median(idle.running), unit: 'ms' });
figures.add('running: file read p99', { value: quantile(idle.running, 0.99), unit: 'ms' });
figures.add('asleep: file read p50', {
  value: median(idle.asleep),
  unit: 'ms',
  goal: atMost(5),
  floor: median(idle.running),
});
figures.add('asleep: file read p99', {
  value: quantile(idle.asleep, 0.99),
  unit: 'ms',
  floor: quantile(idle.running, 0.99),
});
figures.add('a wake adds, p50', { value: median(idle.asleep) - median(idle.running), unit: 'ms', goal: atMost(2.5) });
figures.add('a wake adds, p99', {
  value: quantile(idle.asleep, 0.99) - quantile(idle.running, 0.99),
  unit: 'ms',
  goal: atMost(15),
});
figures.add('asleep by policy: file read p50', { value: median(idle.byPolicy), unit: 'ms' });
figures.add('wakes seen frozen before and thawed after', {
  value: idle.proven,
  unit: 'of ' + idle.asleep.length,
  goal: { kind: 'at least', than: idle.asleep.length },
});
for (const { room, p99 } of await eventLoopDelays(stack))
  figures.add(`event-loop delay p99: ${room}`, { value: p99, unit: 'ms' });

for (const processes of [0, 20]) {
  const { tookMs, cpuMs } = await censusCost(stack, processes);
  const what = `before each sleep: counting ${processes} processes that listen`;
  figures.add(`${what}, p50`, { value: median(tookMs), unit: 'ms' });
  figures.add(`${what}, p99`, { value: quantile(tookMs, 0.99), unit: 'ms' });
  figures.add(`${what}, CPU`, { value: cpuMs, unit: 'ms' });
}

const loaded = await load(stack, () => series(stack, 'load'));
figures.add('under load: asleep: file read p50', {
  value: median(loaded.result.asleep),
  unit: 'ms',
  floor: median(loaded.result.running),
});
figures.add('under load: asleep: file read p99', {
  value: quantile(loaded.result.asleep, 0.99),
  unit: 'ms',
  goal: atMost(50),
  floor: quantile(loaded.result.running, 0.99),
});
figures.add('under load: wakes proven', {
  value: loaded.result.proven,
  unit: 'of ' + loaded.result.asleep.length,
  goal: { kind: 'at least', than: loaded.result.asleep.length },
});
for (const { room, p99 } of await eventLoopDelays(stack))
  figures.add(`under load: event-loop delay p99: ${room}`, { value: p99, unit: 'ms' });
figures.note(`the load meanwhile: ${loaded.said}`);
figures.report(values.json);
process.exit();

interface Series {
  readonly running: number[];
  readonly asleep: number[];
  readonly byPolicy: number[];
  readonly proven: number;
}

async function series(at: Stack, label: string): Promise<Series> {
  const dispatcher = client(at.url);
  const calls = api(at);
  const sandboxes = await createMany(at, 10, `wake-${label}`);
  const sleepers = await createMany(at, BY_POLICY, `wake-${label}-policy`, { idle: { kind: 'after', idleMs: 1_000 } });
  const running: number[] = [];
  const asleep: number[] = [];
  let proven = 0;
  try {
    for (const each of [...sandboxes, ...sleepers]) await putFile(dispatcher, at, each, FILE, 'x'.repeat(1024));
    for (let turn = 0; turn < WAKES - BY_POLICY; turn++) {
      const each = pick(sandboxes, turn);
      running.push((await read(each)).tookMs);
      await calls.pause(each.name);
      const before = await isFrozen(at.scope, each.hostId);
      const answer = await read(each);
      asleep.push(answer.tookMs);
      if (before && !(await isFrozen(at.scope, each.hostId)) && answer.body.length === 1024) proven++;
    }
    const byPolicy: number[] = [];
    for (const each of sleepers) {
      await untilFrozen(at, each);
      const answer = await read(each);
      byPolicy.push(answer.tookMs);
      if (!(await isFrozen(at.scope, each.hostId)) && answer.body.length === 1024) proven++;
    }
    asleep.push(...byPolicy);
    return { running, asleep, byPolicy, proven };
  } finally {
    await deleteMany(at, [...sandboxes, ...sleepers]);
    await dispatcher.close();
  }

  function read(each: Made) {
    return expectOk(dispatcher, fileUrl(at, each, FILE), {
      headers: { ...at.headers, accept: 'application/octet-stream' },
    });
  }
}

async function untilFrozen(at: Stack, { hostId, name }: Made): Promise<void> {
  const until = performance.now() + 30_000;
  while (!(await isFrozen(at.scope, hostId))) {
    if (performance.now() > until) throw new Error(`${name} did not fall asleep by its policy within 30 s`);
    await after(20);
  }
}

function pick<T>(all: readonly T[], turn: number): T {
  const one = all[turn % all.length];
  if (one === undefined) throw new Error('there is nothing to pick from');
  return one;
}
