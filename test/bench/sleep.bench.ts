/**
 * Sleep, tier by tier, for sandboxes that run the guest alone, and for processes of 100 and 400 MiB of incompressible memory: the RAM and disk that each
 * takes, how long it takes to get there, and what a wake from there takes, by one request through the gateway that the process itself answers. RAM is the
 * change of the host's MemAvailable over all of them, so let nothing else run meanwhile. Before each timed request the kernel says that the sandbox
 * sleeps so deep. Wakes from the disk are timed with its image in the page cache, where a store's own write leaves it until the host wants the room,
 * and with nothing there.
 */
import { setTimeout as after } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { api } from './lib/api.ts';
import { atMost, Figures, median, quantile, type Figure } from './lib/figures.ts';
import { measureFloors } from './lib/floors.ts';
import { CPUS, startHolder } from './lib/holder.ts';
import { dropPageCache, hostMemory, imagesMib, warmImages, type HostMemory } from './lib/memory.ts';
import { createOne, deleteMany, fileUrl, putFile, type Made } from './lib/sandboxes.ts';
import { client, expectOk, stackUp, torpor } from './lib/stack.ts';
import { isOffered, saveBegins, TIERS, toSleep, type Tier } from './lib/tiers.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    count: { type: 'string' },
    wakes: { type: 'string' },
    large: { type: 'string' },
    floors: { type: 'string' },
    disk: { type: 'string' },
    only: { type: 'string', default: 'idle,100,400,peer,floors' },
  },
});
/** Sandboxes, wakes of each kind, of these from 1 GiB, rounds of hostd's own benchmark; GiB of the pool. */
const WHOLE = { count: 20, wakes: 40, large: 10, floors: 10, disk: 24 };
/** A look in a few minutes: that it runs, and times to within a third. Its RAM is of too few to be told from noise. */
const QUICK = { count: 3, wakes: 9, large: 3, floors: 3, disk: 12 };
const COUNT = given('count');
const WAKES = given('wakes');
const PARTS = new Set(values.only.split(','));
/** How many of them are woken and put to sleep again, in turn. */
const WOKEN = Math.min(5, COUNT);
/** MiB of RAM that a sleeper may keep in the lean tier: so much of what it takes running, and so much besides. */
const LEAN_SHARE = 0.15;
const LEAN_MIB = 14e6 / 2 ** 20;

interface Sleeper extends Made {
  ask(): Promise<{ tookMs: number }>;
}

interface Load {
  readonly label: string;
  readonly make: (name: string) => Promise<Sleeper>;
  /** Of a wake from the disk, p50, ms. */
  readonly storedMs: number | undefined;
}

await torpor(['down']);
const stack = await stackUp(['--pool', '0', '--disk', String(given('disk'))]); // a pool that fills up would be counted as somebody's RAM
const figures = new Figures('sleep');
const via = client(stack.url);
const LOADS: readonly Load[] = [
  { label: 'idle', make: makeIdle, storedMs: 120 },
  { label: '100 MiB', make: (name) => makeHolding(name, 100), storedMs: 200 },
  { label: '400 MiB', make: (name) => makeHolding(name, 400), storedMs: undefined },
];
for (const load of LOADS) if (PARTS.has(load.label.split(' ')[0] ?? '')) await measure(load);
if (PARTS.has('peer')) await measurePeer();
await torpor(['down']);
if (PARTS.has('floors')) await compareWithFloors();
figures.report(values.json);
process.exit();

function given(name: keyof typeof WHOLE): number {
  return Number(values[name] ?? (values.quick ? QUICK : WHOLE)[name]);
}

async function makeIdle(name: string): Promise<Sleeper> {
  const made = await createOne(stack, name, { idle: { kind: 'never' }, memoryMib: 512, cpus: CPUS });
  await putFile(via, stack, made, '/dev/shm/probe', 'x');
  const headers = { ...stack.headers, accept: 'application/octet-stream' };
  return { ...made, ask: () => expectOk(via, fileUrl(stack, made, '/dev/shm/probe'), { headers }) };
}

async function makeHolding(name: string, mib: number): Promise<Sleeper> {
  const holder = await startHolder(stack, name, mib);
  return { ...holder, ask: () => holder.ask(via) };
}

async function measure(load: Load): Promise<void> {
  const { label } = load;
  const made: Sleeper[] = [];
  try {
    const empty = await hostMemory();
    while (made.length < COUNT)
      made.push(await load.make(`sleep-${process.pid}-${label.replace(' ', '-').toLowerCase()}-${made.length}`));
    const runningMib = each(empty, await hostMemory()).ram;
    figures.add(`${label}: running: RAM`, { value: runningMib, unit: 'MiB' });
    const woken = made.slice(0, WOKEN);
    const running = await timesOf(woken, async (sleeper) => (await sleeper.ask()).tookMs);
    told(`${label}: running: request`, running, {});
    for (const tier of TIERS) await measureTier(load, tier, { made, empty, runningMib, runningMs: median(running) });
    await measureQueued(label, woken);
  } finally {
    await deleteMany(stack, made);
  }
}

async function measureTier(
  { label, storedMs }: Load,
  tier: Tier,
  {
    made,
    empty,
    runningMib,
    runningMs,
  }: { made: readonly Sleeper[]; empty: HostMemory; runningMib: number; runningMs: number },
): Promise<void> {
  const [probe] = made;
  if (!probe || !(await isOffered(stack, tier, probe))) return figures.note(`${label}: ${tier}: not offered`);
  const reached: number[] = [];
  for (const sleeper of made) reached.push(await toSleep(stack, sleeper, tier));
  const { ram, swap } = each(empty, await hostMemory());
  const ramGoal = tier === 'lean' ? { goal: atMost(LEAN_SHARE * runningMib + LEAN_MIB) } : {};
  figures.add(`${label}: ${tier}: RAM`, { value: ram, unit: 'MiB', ...ramGoal });
  const disk =
    tier === 'stored'
      ? (await imagesMib(
          stack,
          made.map(({ hostId }) => hostId),
        )) / made.length
      : swap;
  figures.add(`${label}: ${tier}: disk${tier === 'stored' ? '' : ' (swap)'}`, { value: disk, unit: 'MiB' });
  told(`${label}: ${tier}: time to get there`, reached, {});
  const woken = made.slice(0, WOKEN);
  const wake = (ready: (sleeper: Sleeper) => Promise<void>) =>
    timesOf(woken, async (sleeper) => {
      await toSleep(stack, sleeper, tier);
      await ready(sleeper);
      return (await sleeper.ask()).tookMs;
    });
  if (tier !== 'stored') {
    const times = await wake(async () => {});
    told(`${label}: ${tier}: woken request`, times, { floor: runningMs });
    figures.add(`${label}: ${tier}: a wake adds, p50`, {
      value: median(times) - runningMs,
      unit: 'ms',
      ...(tier === 'lean' ? { goal: atMost(8) } : {}),
    });
    return;
  }
  const warm = await wake(({ hostId }) => warmImages(stack, hostId));
  told(
    `${label}: stored: woken request, page cache warm`,
    warm,
    storedMs === undefined ? {} : { goal: atMost(storedMs) },
  );
  told(`${label}: stored: woken request, page cache dropped`, await wake(dropPageCache), {});
}

/** Requests that come when a save has just begun, which is the worst moment. */
async function measureQueued(label: string, woken: readonly Sleeper[]): Promise<void> {
  let met = 0;
  const times = await timesOf(woken, async (sleeper) => {
    for (;;) {
      await toSleep(stack, sleeper, 'paused');
      const storing = api(stack).store(sleeper.name);
      const hasBegun = await saveBegins(stack, sleeper);
      const { tookMs } = await sleeper.ask();
      const { state } = await storing;
      if (!hasBegun || state === 'stored') continue;
      met++;
      return tookMs;
    }
  });
  told(`${label}: a wake that met a store: request`, times, {});
  figures.add(`${label}: wakes that met a store`, { value: met, unit: '' });
}

/** The method of Sandstorm's published figures on gVisor: an app that reads its whole heap at each request. */
async function measurePeer(): Promise<void> {
  const made: Made[] = [];
  try {
    const small = await startHolder(stack, `sleep-${process.pid}-peer-64`, 64);
    made.push(small);
    const all = async () => (await small.ask(via, 'all')).tookMs;
    told('peer’s method, 64 MiB: hot', await timesOf([small], all), { goal: atMost(6) });
    for (const [tier, goal] of [
      ['paused', undefined],
      ['lean', 103],
      ['stored', 148],
    ] as const) {
      if (!(await isOffered(stack, tier, small))) {
        figures.note(`peer’s method, 64 MiB: ${tier}: not offered`);
        continue;
      }
      const times = await timesOf([small], async () => {
        await toSleep(stack, small, tier);
        if (tier === 'stored') await warmImages(stack, small.hostId);
        return all();
      });
      told(`peer’s method, 64 MiB: ${tier}`, times, goal === undefined ? {} : { goal: atMost(goal) });
    }
    const large = await startHolder(stack, `sleep-${process.pid}-peer-1024`, 1024);
    made.push(large);
    const hot = await timesOf([large], async () => (await large.ask(via, 'all')).tookMs, given('large'));
    told('peer’s method, 1 GiB: hot', hot, {});
    const fromDisk = await timesOf(
      [large],
      async () => {
        await toSleep(stack, large, 'stored');
        await warmImages(stack, large.hostId);
        return (await large.ask(via, 'all')).tookMs;
      },
      given('large'),
    );
    told('peer’s method, 1 GiB: stored', fromDisk, { goal: atMost(1_500) });
  } finally {
    await deleteMany(stack, made);
  }
}

async function compareWithFloors(): Promise<void> {
  const { bySize, encryptMs, decryptMs } = await measureFloors(given('floors'));
  for (const [mib, row] of bySize) {
    const label = mib === 0 ? 'idle' : `${mib} MiB`;
    const ms = (what: string) => row.get(what) ?? Number.NaN;
    const beside = (what: string, ours: string, bare: string) => {
      figures.add(`${label}: hostd: ${what}, p50`, { value: ms(ours), unit: 'ms', floor: ms(bare) });
      figures.add(`${label}: hostd: ${what}, over bare runsc`, {
        value: ms(ours) / ms(bare),
        unit: '×',
        goal: atMost(1.25),
      });
    };
    beside('stall of a store', 'ours: stall', 'bare: checkpoint');
    beside('restore into a shell, to its first answer', 'ours: restore to answer', 'bare: restore to answer');
    for (const what of ['disk snapshot', 'fsync', 'verify'])
      figures.add(`${label}: hostd: ${what}, p50`, { value: ms(`ours: ${what}`), unit: 'ms' });
  }
  figures.add('encrypting 100 MiB, one processor', { value: encryptMs, unit: 'ms' });
  figures.add('decrypting 100 MiB, one processor', { value: decryptMs, unit: 'ms' });
}

/** In turn, one after another, so that none is woken while another is. */
async function timesOf<T>(of: readonly T[], act: (one: T) => Promise<number>, count = WAKES): Promise<number[]> {
  const times: number[] = [];
  for (let n = 0; n < count; n++) {
    const one = of[n % of.length];
    if (one === undefined) throw new Error('there is nobody to measure');
    times.push(await act(one));
    await after(5);
  }
  return times;
}

function told(name: string, times: readonly number[], more: Pick<Figure, 'goal' | 'floor'>): void {
  figures.add(`${name}, p50`, { value: median(times), unit: 'ms', ...more });
  figures.add(`${name}, p99`, { value: quantile(times, 0.99), unit: 'ms' });
}

/** What each of them takes, MiB. */
function each(before: HostMemory, now: HostMemory): { ram: number; swap: number } {
  return {
    ram: (before.availableMib - now.availableMib) / COUNT,
    swap: (now.swapUsedMib - before.swapUsedMib) / COUNT,
  };
}
