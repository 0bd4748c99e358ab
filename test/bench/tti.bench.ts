/**
 * Time to interactive by ComputeSDK's method: create a sandbox and run a first command in it, through the published `@blaxel/core`; delete it outside
 * the clock. 100 sequential, 100 staggered by 200 ms, a burst of as many as memory allows; then the default pool under one create a second, the pool
 * empty, and the cold path beside bare `runsc run`.
 */
import { freemem } from 'node:os';
import { setTimeout as after } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { api } from './lib/api.ts';
import { bareRunsc } from './lib/bare-runsc.ts';
import { atMost, Figures, median, quantile } from './lib/figures.ts';
import { nodeMetric } from './lib/observe.ts';
import { loadBlaxel, stackUp, torpor } from './lib/stack.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    pool: { type: 'string', default: '128' },
    count: { type: 'string', default: '100' },
    minutes: { type: 'string', default: '5' },
    cold: { type: 'string', default: '20' },
  },
});
const COUNT = Number(values.count);
/** Medians of others in ms, ComputeSDK, May 2026: from a client in their region, over the internet, with `node -v` as the command. Ours is on loopback. */
const PUBLISHED = { declaw: 42, Daytona: 186, E2B: 491, Blaxel: 525, HopX: 1422, Modal: 1723 };

const figures = new Figures('tti');
await torpor(['down']);
let stack = await stackUp(['--pool', values.pool]);
const { SandboxInstance } = await loadBlaxel(stack);
let serial = 0;

await fullPool();
const sequential = await inTurn(COUNT);
await fullPool();
const staggered = await Promise.all(
  Array.from({ length: COUNT }, async (_, n) => {
    await after(n * 200);
    return tti();
  }),
);
await fullPool();
// A sandbox that has run a command holds some 40 MiB; leave a quarter of the memory to everything else.
const burstSize = Math.min(COUNT, Math.floor((freemem() * 0.75) / (48 << 20)));
const burst = await Promise.all(Array.from({ length: burstSize }, () => tti()));
figures.add('sequential p50', { value: median(sequential), unit: 'ms', goal: atMost(30) });
figures.add('sequential p99', { value: quantile(sequential, 0.99), unit: 'ms' });
figures.add('staggered p50', { value: median(staggered), unit: 'ms' });
figures.add('staggered p99', { value: quantile(staggered, 0.99), unit: 'ms' });
figures.add(`burst of ${burstSize} p50`, { value: median(burst), unit: 'ms', goal: atMost(500) });
figures.add(`burst of ${burstSize} p99`, { value: quantile(burst, 0.99), unit: 'ms' });
const refill = await fullPool();
figures.add('pool depth', { value: refill.depth, unit: 'instances' });
figures.add('refill rate after the burst', { value: refill.perSecond, unit: 'per second' });

await torpor(['down']);
stack = await stackUp();
await fullPool();
const began = performance.now();
const steady: Promise<number>[] = [];
const total = Math.round(Number(values.minutes) * 60);
for (let n = 0; n < total; n++) {
  await after(Math.max(0, began + n * 1000 - performance.now()));
  steady.push(tti());
}
const steadyMs = await Promise.all(steady);
figures.add(`default pool, 1 create/s for ${values.minutes} min, p50`, {
  value: median(steadyMs),
  unit: 'ms',
  goal: atMost(60),
});
figures.add(`default pool, 1 create/s for ${values.minutes} min, p99`, { value: quantile(steadyMs, 0.99), unit: 'ms' });
figures.add('cold fallbacks meanwhile', { value: await coldStarts(), unit: 'of ' + total, goal: atMost(0) });

await torpor(['down']);
stack = await stackUp(['--pool', '0']);
const cold = await inTurn(Number(values.cold));
figures.add('pool empty: TTI p50', { value: median(cold), unit: 'ms' });
const bare = await bareRunsc(Number(values.cold));
const coldCreate = await coldCreates(Number(values.cold));
figures.add('cold create → first answer of the guest, p50', {
  value: median(coldCreate),
  unit: 'ms',
  floor: median(bare),
});
figures.add('cold path over bare runsc run', {
  value: median(coldCreate) / median(bare),
  unit: '×',
  goal: atMost(1.3),
});
figures.note(
  `published medians, create + \`node -v\` over the internet (ComputeSDK, May 2026): ${Object.entries(PUBLISHED)
    .map(([who, ms]) => `${who} ${ms}`)
    .join(', ')} ms; ours is measured on loopback with \`echo ready\``,
);
await torpor(['down']);
figures.report(values.json);
process.exit();

async function inTurn(count: number): Promise<number[]> {
  const all: number[] = [];
  for (let n = 0; n < count; n++) all.push(await tti());
  return all;
}

async function tti(): Promise<number> {
  const name = `tti-${process.pid}-${serial++}`;
  const start = performance.now();
  const sandbox = await SandboxInstance.create({ name });
  const result = await sandbox.process.exec({ command: 'echo ready', waitForCompletion: true });
  const took = performance.now() - start;
  if (result.exitCode !== 0 || !(result.logs ?? '').includes('ready'))
    throw new Error(`${name} did not answer the command: ${JSON.stringify(result)}`);
  await SandboxInstance.delete(name);
  return took;
}

async function coldCreates(count: number): Promise<number[]> {
  const all: number[] = [];
  for (let n = 0; n < count; n++) {
    const name = `cold-${process.pid}-${n}`;
    const start = performance.now();
    await api(stack).create({ name });
    all.push(performance.now() - start);
    await api(stack).delete(name);
  }
  return all;
}

/** Waits until the pool has its depth again, and says how quickly it came. */
async function fullPool(): Promise<{ depth: number; perSecond: number }> {
  const start = performance.now();
  const first = await poolOf();
  let now = first;
  while (now.ready < now.target) {
    if (performance.now() - start > 600_000) throw new Error(`the pool has ${now.ready} of ${now.target} after 600 s`);
    await after(250);
    now = await poolOf();
  }
  return {
    depth: now.target,
    perSecond: (now.ready - first.ready) / Math.max(0.001, (performance.now() - start) / 1000),
  };
}

async function poolOf(): Promise<{ ready: number; target: number }> {
  const [node] = await api(stack).nodes();
  return node?.pool[0] ?? { ready: 0, target: 0 };
}

async function coldStarts(): Promise<number> {
  return nodeMetric(stack, /^torpor_instances_started_total\{[^}]*from="cold"[^}]*\} (\S+)$/m);
}
