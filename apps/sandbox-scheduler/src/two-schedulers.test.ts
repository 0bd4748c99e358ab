/** Two schedulers share one record and one bus: any of them may get any ask, and neither knows what the other is at. */
import { MemoryBus } from '@torpor/bus';
import { createSandbox } from '@torpor/contracts';
import { Failure, seededChance } from '@torpor/kernel';
import { memoryStore } from '@torpor/store';
import { silentTelemetry } from '@torpor/telemetry';
import { VirtualClock } from '@torpor/testkit';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openScheduler, type Scheduler } from './sandbox-scheduler.ts';
import { ask, name, workspace } from './testing/ask.ts';
import { beatAll, FakeNode, runningOn } from './testing/fake-node.ts';

const asked = ask({ reuse: true, idle: { kind: 'never' } });

let clock: VirtualClock;
let bus: MemoryBus;
let store: ReturnType<typeof memoryStore>;
let schedulers: readonly Scheduler[];
let nodes: Record<'a' | 'b', FakeNode>;

const create = () => bus.as('gateway').ask(createSandbox, asked);
const row = () => store.workspace(workspace).sandboxes.get(name, clock.nowMs());
const running = () => runningOn([nodes.a, nodes.b]);
const beatFor = (ms: number) => beatAll([nodes.a, nodes.b], clock, ms);

beforeEach(async () => {
  clock = new VirtualClock();
  bus = new MemoryBus({ clock });
  store = memoryStore();
  const open = (which: string, seed: number) =>
    openScheduler({ store, clock, wire: bus.as(which), chance: seededChance(seed), telemetry: silentTelemetry() });
  schedulers = [await open('one', 1), await open('two', 2)];
  nodes = { a: new FakeNode('a', bus.as('a'), clock), b: new FakeNode('b', bus.as('b'), clock) };
  nodes.b.memoryFreeMib = 5_000; // so that a is asked first
  for (const node of [nodes.a, nodes.b]) await node.open();
  await beatFor(12_000); // both have heard of both nodes
});
afterEach(() => Promise.all(schedulers.map((scheduler) => scheduler.close())));

/** Asks until both schedulers work at the one birth, each by a start of its own. */
async function createdByBoth() {
  const asks = [];
  while (nodes.a.starts.length < 2) {
    asks.push(create());
    await clock.advance(10);
  }
  return asks;
}

it('a start that fails one of them takes nothing away from the other, who has answered it', async () => {
  let starts = 0;
  nodes.a.onStart = () => (++starts === 1 ? new Promise<never>(() => {}) : Promise.resolve());
  const asks = await createdByBoth();
  await beatFor(70_000);
  const answers = await Promise.all(asks);
  expect(new Set(answers.map(({ sandbox }) => `${sandbox.instanceId} ${sandbox.phase}`)).size).toBe(1);
  expect(answers.filter(({ kind }) => kind === 'created')).toHaveLength(1);
  expect(await row()).toMatchObject({ phase: 'ready', instanceId: answers[0]?.sandbox.instanceId, generation: 1 });
  expect([running(), nodes.a.stopped]).toEqual([['a:box'], []]);
});

it('one of them that moves the birth to another node is followed there', async () => {
  let starts = 0;
  nodes.a.onStart = async () => {
    if (++starts === 1) throw new Failure('no_capacity', 'full');
    await clock.after(500); // it starts here, too, when it is wanted elsewhere already
  };
  nodes.b.onStart = () => clock.after(100);
  const first = create();
  first.catch(() => {}); // looked at below
  const asks = [first];
  while (nodes.b.starts.length === 0 || asks.length < 4) {
    asks.push(create());
    await clock.advance(1);
  }
  await beatFor(20_000);
  const answers = await Promise.all(asks);
  expect(new Set(answers.map(({ sandbox }) => `${sandbox.nodeId} ${sandbox.generation} ${sandbox.phase}`))).toEqual(
    new Set(['b 2 ready']),
  );
  expect(running()).toEqual(['b:box']);
});
