/**
 * More sandboxes than memory: each holds so many MiB that no compression makes smaller, and all together hold some times what their host has for them. Requests
 * come in an open loop (each is sent when its time has come, whatever became of the others, and its time counts from then), Poisson, over the sandboxes by Zipf.
 * Each answer is checked against what its sandbox said of itself at its start. Then a storm: many that are stored are asked for at once, in a known order.
 *
 * `--ram` is how much of the host's memory the sandboxes may have, all if absent. The stack must be down: it is brought up with that. Images are as large as the
 * memory that they hold, and there may be two of each: the pool of disks (`--disk`, GiB) must hold `2 × count × mib` and more.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as after } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { seededChance, type Chance } from '@torpor/kernel';
import { api } from './lib/api.ts';
import { atLeast, atMost, Figures, quantile } from './lib/figures.ts';
import { askHolder, startHolder, type Asked, type Holder } from './lib/proving-holder.ts';
import { deleteMany } from './lib/sandboxes.ts';
import { client, stackUp } from './lib/stack.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    count: { type: 'string', default: '200' },
    mib: { type: 'string', default: '300' },
    ram: { type: 'string' },
    disk: { type: 'string' },
    rates: { type: 'string', default: '1,2,4' },
    seconds: { type: 'string', default: '150' },
    zipf: { type: 'string', default: '1.1' },
    storm: { type: 'string', default: '100' },
    seed: { type: 'string', default: '1' },
  },
});
const [COUNT, MIB, SECONDS, STORM] = [values.count, values.mib, values.seconds, values.storm].map(Number) as [
  number,
  number,
  number,
  number,
];
const IDLE_MS = 15_000;
/** A create, or a wake of the storm, that was refused asks again until then. */
const PATIENCE_MS = 600_000;

const availableMib = await hostMib('MemAvailable');
const keptMib = values.ram === undefined ? undefined : Math.max(768, Math.round(availableMib - Number(values.ram)));
const env = { ...process.env, ...(keptMib === undefined ? {} : { TORPOR_MEMORY_KEPT_MIB: String(keptMib) }) };
const stack = await stackUp(['--pool', '0', ...(values.disk ? ['--disk', values.disk] : [])], env);
const figures = new Figures('oversubscribe');
const dispatcher = client(stack.url, 512);
const calls = api(stack);
const chance = seededChance(Number(values.seed));
const holders: Holder[] = [];
const oomBefore = await oomKills();
try {
  while (holders.length < COUNT) holders.push(await patiently(() => start(holders.length)));
  const ramMib = availableMib - (keptMib ?? 768);
  figures.note(
    `${COUNT} sandboxes of ${MIB} MiB on ${Math.round(ramMib)} MiB: ${((COUNT * MIB) / ramMib).toFixed(2)} times their memory`,
  );
  for (const rate of values.rates.split(',').map(Number)) await openLoop(rate);
  if (STORM > 0) await storm(Math.min(STORM, COUNT));
  await everyOneIsWhole();
  figures.add('killed for want of memory', {
    value: (await oomKills()) - oomBefore,
    unit: 'processes',
    goal: atMost(0),
  });
} finally {
  await deleteMany(
    stack,
    holders.map(({ made }) => made),
  );
  await dispatcher.close();
}
figures.report(values.json);
process.exit();

function start(n: number): Promise<Holder> {
  return startHolder(stack, dispatcher, { name: `over-${process.pid}-${n}`, mib: MIB, idleMs: IDLE_MS });
}

async function openLoop(perS: number): Promise<void> {
  const pick = zipf(Number(values.zipf), holders, chance);
  const asking: Promise<Asked & { lateMs: number }>[] = [];
  const begin = performance.now();
  for (let dueMs = 0; dueMs < SECONDS * 1_000; dueMs += (-Math.log(1 - chance.fraction()) / perS) * 1_000) {
    await after(Math.max(0, begin + dueMs - performance.now()));
    const lateMs = performance.now() - begin - dueMs;
    const asked = askHolder(stack, dispatcher, pick(), Math.floor(chance.fraction() * MIB));
    asking.push(asked.then((one) => ({ ...one, lateMs })));
  }
  judge(`${perS}/s`, await Promise.all(asking));
}

function judge(name: string, all: readonly (Asked & { lateMs: number })[]): void {
  const whole = all.flatMap((one) => (one.kind === 'whole' ? [{ ms: one.tookMs + one.lateMs, found: one.found }] : []));
  const refused = all.filter((one) => one.kind === 'refused');
  const failed = all.flatMap((one) => (one.kind === 'failed' || one.kind === 'lost' ? [one] : []));
  const times = (found?: string) =>
    whole.filter((one) => found === undefined || one.found === found).map(({ ms }) => ms);
  figures.add(`${name}: p50`, { value: quantile(times(), 0.5), unit: 'ms' });
  figures.add(`${name}: p99`, { value: quantile(times(), 0.99), unit: 'ms', goal: atMost(1_700) });
  for (const found of ['awake', 'paused', 'stored'].filter((tier) => times(tier).length > 0)) {
    figures.add(`${name}: from ${found}: of ${all.length}`, { value: times(found).length, unit: 'requests' });
    figures.add(`${name}: from ${found}: p50`, { value: quantile(times(found), 0.5), unit: 'ms' });
  }
  figures.add(`${name}: refused`, { value: (100 * refused.length) / all.length, unit: '%', goal: atMost(2) });
  figures.add(`${name}: refused without Retry-After`, {
    value: refused.filter(({ retryAfterS }) => retryAfterS === undefined).length,
    unit: 'requests',
    goal: atMost(0),
  });
  figures.add(`${name}: failed otherwise`, { value: failed.length, unit: 'requests', goal: atMost(0) });
  for (const { kind, reason } of failed.slice(0, 5)) figures.note(`${name}: ${kind}: ${reason}`);
}

/** Many stored ones asked for at once. Those that are refused ask again when they were told to. */
async function storm(count: number): Promise<void> {
  const chosen = holders.slice(0, count);
  for (const { made } of chosen) await patiently(() => calls.store(made.name));
  const came: number[] = [];
  let refusals = 0;
  const begin = performance.now();
  const ends = await Promise.all(
    chosen.map(async (holder, rank) => {
      await after(rank * 2); // so that there is an order
      const first = await askHolder(stack, dispatcher, holder, 0);
      if (first.kind === 'whole') came.push(rank);
      let last = first;
      while (last.kind === 'refused' && performance.now() - begin < PATIENCE_MS) {
        refusals++;
        await after((last.retryAfterS ?? 5) * 1_000);
        last = await askHolder(stack, dispatcher, holder, 0);
      }
      return last;
    }),
  );
  const tookS = (performance.now() - begin) / 1_000;
  const displaced = came.map((rank, at) => Math.abs(came.filter((other) => other < rank).length - at));
  const whole = ends.filter(({ kind }) => kind === 'whole').length;
  figures.add('storm: served at the first try', { value: came.length, unit: `of ${count}` });
  figures.add('storm: farthest out of order, of those', { value: Math.max(0, ...displaced), unit: 'places' });
  figures.add('storm: refused and asked again', { value: refusals, unit: 'times' });
  figures.add('storm: whole in the end', { value: whole, unit: `of ${count}`, goal: atLeast(count) });
  figures.add('storm: until the last was served', { value: tookS, unit: 's' });
}

/** All of what each holds. */
async function everyOneIsWhole(): Promise<void> {
  let whole = 0;
  for (const holder of holders) {
    const end = await patiently(async () => {
      const asked = await askHolder(stack, dispatcher, holder, -1);
      if (asked.kind === 'refused') throw new Error('refused');
      return asked;
    });
    if (end.kind === 'whole') whole++;
    else figures.note(`${holder.made.name}: ${end.kind}: ${'reason' in end ? end.reason : ''}`);
  }
  figures.add('whole in the end', { value: whole, unit: `of ${holders.length}`, goal: atLeast(holders.length) });
}

/** A full node says so, and is asked again. */
async function patiently<T>(work: () => Promise<T>): Promise<T> {
  const untilMs = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (performance.now() > untilMs) throw error;
      await after(2_000);
    }
  }
}

/** The first of a shuffled list is asked for most. */
function zipf<T>(exponent: number, all: readonly T[], random: Chance): () => T {
  const shuffled = all
    .map((one) => ({ one, order: random.fraction() }))
    .toSorted((a, b) => a.order - b.order)
    .map(({ one }) => one);
  const weights = shuffled.map((_, rank) => 1 / (rank + 1) ** exponent);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return () => {
    let left = random.fraction() * total;
    const at = weights.findIndex((weight) => (left -= weight) <= 0);
    const found = shuffled.at(at);
    if (found === undefined) throw new Error('there is nothing to pick from');
    return found;
  };
}

async function hostMib(field: string): Promise<number> {
  const text = await readFile('/proc/meminfo', 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) / 1_024;
}

async function oomKills(): Promise<number> {
  return Number(/^oom_kill (\d+)$/m.exec(await readFile('/proc/vmstat', 'utf8'))?.[1] ?? 0);
}
