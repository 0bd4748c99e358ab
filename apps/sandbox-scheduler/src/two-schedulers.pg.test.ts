/** Two schedulers race over one PostgreSQL in real time: creates, deletes, restarts, ends by age and repairs, with asks that arrive twice. */
import { MemoryBus } from '@torpor/bus';
import {
  bookUsage,
  createSandbox,
  deleteSandbox,
  SandboxName,
  updateSandbox,
  WorkspaceName,
  type SandboxAsk,
} from '@torpor/contracts';
import { Failure, seededChance, systemChance, systemClock } from '@torpor/kernel';
import { aesSealing, pgStore, type Store } from '@torpor/store';
import { openTelemetry } from '@torpor/telemetry';
import { startPostgres, type TestPostgres } from '@torpor/testkit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { openScheduler, type Scheduler } from './sandbox-scheduler.ts';
import { FakeNode } from './testing/fake-node.ts';

const WORKSPACE = WorkspaceName.parse('race');
const NAMES = ['ada', 'bob', 'cleo', 'dan'].map((name) => SandboxName.parse(name));
const CLIENTS = 6;
const ROUNDS = 25;
const OLD_ENTRIES = 30;
/** What a race may be answered with; anything else is a bug. */
const LAWFUL = new Set(['conflict', 'not_found', 'no_capacity', 'unavailable']);

interface Told {
  readonly event: string;
  readonly instanceId: string;
  readonly generation: number;
  readonly what: string;
  readonly rows: number;
}

const sealing = aesSealing({ key: Buffer.alloc(32, 7).toString('base64'), chance: systemChance });
const chance = seededChance(11);
const told: Told[] = [];
/** In which phases sandboxes were when a create answered them. */
const answered = new Set<string>();
const toldOf = (event: string) => told.filter((one) => one.event === event);
const bus = new MemoryBus({
  fates: () => {
    const arrivals = chance.fraction() < 0.1 ? [delayMs(), delayMs()] : [delayMs()];
    return { arrivals };
  },
});
let postgres: TestPostgres;
let store: Store;
const open: { readonly scheduler: Scheduler; readonly store: Store }[] = [];
const nodes = ['a', 'b'].map((id) => new FakeNode(id, bus.as(id), systemClock));
const over = new AbortController();

function delayMs(): number {
  return chance.fraction() < 0.1 ? chance.fraction() * 60 : 0;
}

beforeAll(async () => {
  postgres = await startPostgres();
  store = await pgStore({ url: postgres.url, sealing });
  for (let n = 0; n < OLD_ENTRIES; n++)
    await store.audit.append({ atMs: 1, actor: 'user:ada', action: 'sandbox.create', outcome: 'ok' });
  const telemetry = openTelemetry({ room: 'scheduler', version: '0', write: (line) => told.push(JSON.parse(line)) });
  const times = { repairMs: 100, expiryLookMs: 100, stopPatienceMs: 1_000 };
  for (const which of ['one', 'two']) {
    const mine = await pgStore({ url: postgres.url, sealing });
    const outside = { clock: systemClock, chance: systemChance, wire: bus.as(which), telemetry, times };
    open.push({ store: mine, scheduler: await openScheduler({ ...outside, store: mine }) });
  }
  for (const node of nodes) {
    node.onStart = async () => {
      if (chance.fraction() < 0.15) throw new Failure('no_capacity', 'full just now');
      await systemClock.after(chance.fraction() * 20);
    };
    await node.open();
    void node.beatOn(100, over.signal);
  }
}, 60_000);

afterAll(async () => {
  over.abort();
  for (const { scheduler } of open) await scheduler.close();
  await Promise.all([store, ...open.map((one) => one.store)].map((one) => one?.close()));
  await postgres?.close();
});

it('lets everything happen once, and record and nodes agree in the end', { timeout: 120_000 }, async () => {
  await vi.waitFor(async () => expect(await store.fleet.list()).toHaveLength(2), { timeout: 10_000 });
  await Promise.all(Array.from({ length: CLIENTS }, (_, n) => live(n)));

  await vi.waitFor(
    async () => {
      expect(await store.wanted.endings({})).toEqual([]);
      const rows = await everything();
      expect(rows.filter(({ phase }) => phase === 'creating')).toEqual([]);
      const wanted = rows.filter(({ phase }) => phase === 'ready').map((one) => `${one.nodeId} ${keyOf(one)}`);
      const there = nodes.flatMap((node) => [...node.instances.values()].map((one) => `${node.id} ${keyOf(one)}`));
      expect(there.sort()).toEqual(wanted.sort());
    },
    { timeout: 60_000, interval: 200 },
  );
  expect(answered).toEqual(new Set(['ready']));
  expect(toldOf('sandbox ended').length).toBeGreaterThan(10);
  expect(toldOf('sandbox created').length).toBeGreaterThan(10);
  for (const event of ['sandbox ended', 'sandbox created', 'sandbox failed']) {
    const keys = toldOf(event).map(keyOf);
    expect(keys.filter((key, at) => keys.indexOf(key) !== at)).toEqual([]);
  }
});

it('counts a stretch of use once, whoever is told of it', async () => {
  const { sandbox } = await created({ reuse: true, expiry: {} });
  const { workspace, instanceId, generation, nodeId } = sandbox;
  const figures = { cpuMs: 1, memoryMibMs: 1, egressBytes: 1, diskMib: 1, tier: 'running' as const };
  const interval = { ...figures, workspace, instanceId, generation, sequence: 0, fromMs: 1, toMs: 2 };
  const book = () => bus.as('node').ask(bookUsage, { nodeId, intervals: [interval] });
  await Promise.all(Array.from({ length: 8 }, book));
  const sums = await store.workspace(WORKSPACE).usage.sum({ fromMs: 0, toMs: 10 });
  expect(sums).toMatchObject([{ instanceId, spanMs: 1, cpuMs: 1 }]);
});

it('lets go of old rows of the audit log once, and vouches for the rest', async () => {
  await vi.waitFor(
    () => expect(toldOf('old rows deleted').reduce((sum, { rows }) => sum + rows, 0)).toBe(OLD_ENTRIES),
    { timeout: 10_000 },
  );
  await store.audit.append({ atMs: Date.now(), actor: 'user:ada', action: 'sandbox.create', outcome: 'ok' });
  expect(await store.audit.verify()).toEqual({ rows: 1 });
});

async function live(client: number): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) {
    const [dice, name] = [chance.fraction(), oneOf(NAMES)];
    try {
      if (dice < 0.55) {
        const expiry = chance.fraction() < 0.4 ? { maxAgeMs: Math.floor(50 + chance.fraction() * 300) } : {};
        const { sandbox } = await created({ name, reuse: chance.fraction() < 0.6, expiry });
        answered.add(sandbox.phase);
      } else if (dice < 0.8) {
        await bus.as('gateway').ask(deleteSandbox, { workspace: WORKSPACE, name, reason: 'asked' });
      } else {
        const env = { BY: `${client} in ${round}` };
        await bus.as('gateway').ask(updateSandbox, { workspace: WORKSPACE, name, env });
      }
    } catch (error) {
      if (!(error instanceof Failure) || !LAWFUL.has(error.code)) throw error;
    }
  }
}

function created(more: Partial<SandboxAsk>) {
  const ask: SandboxAsk = {
    workspace: WORKSPACE,
    name: oneOf(NAMES),
    reuse: true,
    template: 'base',
    image: 'base',
    shape: { memoryMib: 512, cpus: 1, diskMib: 1_024, pids: 256 },
    env: {},
    ports: [],
    labels: {},
    idle: { kind: 'never' },
    expiry: {},
    terminatedRetentionMs: 600_000,
    extra: {},
    createdBy: 'user:ada',
    ...more,
  };
  return bus.as('gateway').ask(createSandbox, ask);
}

async function everything() {
  const { items } = await store.workspace(WORKSPACE).sandboxes.list({ nowMs: Date.now(), limit: 200 });
  return items;
}

function keyOf(who: { readonly instanceId: string; readonly generation: number }): string {
  return `${who.instanceId}/${who.generation}`;
}

function oneOf<T>(items: readonly T[]): T {
  const item = items[Math.floor(chance.fraction() * items.length)];
  if (item === undefined) throw new Error('nothing to choose from');
  return item;
}
