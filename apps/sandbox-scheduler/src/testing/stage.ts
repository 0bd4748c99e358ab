/**
 * For tests: a scheduler on a virtual clock, with a store and a bus in memory and two nodes, `a` and `b`; all of it new for each test of the file that
 * imports this. It may be killed and revived.
 */
import { MemoryBus } from '@torpor/bus';
import {
  createSandbox,
  deleteSandbox,
  SandboxName,
  updateSandbox,
  type Sandbox,
  type SandboxAsk,
} from '@torpor/contracts';
import { seededChance } from '@torpor/kernel';
import { memoryStore } from '@torpor/store';
import { silentTelemetry } from '@torpor/telemetry';
import { severable, VirtualClock } from '@torpor/testkit';
import { afterEach, beforeEach } from 'vitest';
import { openScheduler, type Scheduler } from '../sandbox-scheduler.ts';
import { ask, name, workspace } from './ask.ts';
import { beatAll, FakeNode, runningOn } from './fake-node.ts';

export { ask, name, workspace };
export const forever = new Promise<never>(() => {});

export let clock: VirtualClock;
export let bus: MemoryBus;
export let store: ReturnType<typeof memoryStore>;
let scheduler: Scheduler;
export let nodes: Record<'a' | 'b', FakeNode>;

let lives: number;
let kill: () => void;

beforeEach(async () => {
  clock = new VirtualClock();
  bus = new MemoryBus({ clock });
  store = memoryStore();
  lives = 0;
  await openRoom();
  nodes = { a: new FakeNode('a', bus.as('a'), clock), b: new FakeNode('b', bus.as('b'), clock) };
  nodes.a.others = nodes.b.others = [nodes.a, nodes.b];
  nodes.b.memoryFreeMib = 5_000; // so that a is asked first
  for (const node of [nodes.a, nodes.b]) {
    await node.open();
    await beat(node);
  }
});
afterEach(() => scheduler.close());

async function openRoom(): Promise<void> {
  const [theStore, theClock] = [
    severable(store, { sync: ['workspace'] }),
    severable(clock, { sync: ['nowMs', 'monotonicMs'] }),
  ];
  kill = () => {
    theStore.sever();
    theClock.sever();
  };
  const chance = seededChance((lives += 1));
  const [wire, telemetry] = [bus.as('scheduler'), silentTelemetry()];
  scheduler = await openScheduler({ store: theStore.held, wire, clock: theClock.held, chance, telemetry });
}

/** As SIGKILL would: nothing it still does reaches anybody. */
export function killRoom(): void {
  bus.sever('scheduler');
  kill();
}

export async function reviveRoom(): Promise<void> {
  bus.mend('scheduler');
  await openRoom();
}

export function gateway() {
  return bus.as('gateway');
}

export function create(more: Partial<SandboxAsk> = {}) {
  return clock.until(gateway().ask(createSandbox, ask(more)));
}

/** Sandboxes on both nodes, some on each. */
export async function createMany(count: number, expiry: SandboxAsk['expiry']): Promise<Sandbox[]> {
  nodes.b.memoryFreeMib = nodes.a.memoryFreeMib;
  await beat(nodes.b);
  const asks = Array.from({ length: count }, (_, n) => ask({ name: SandboxName.parse(`box-${n}`), expiry }));
  const answers = await clock.until(Promise.all(asks.map((one) => gateway().ask(createSandbox, one))));
  return answers.map(({ sandbox }) => sandbox);
}

export function end() {
  return clock.until(gateway().ask(deleteSandbox, { workspace, name, reason: 'asked' }));
}

export function update(more: object) {
  return clock.until(gateway().ask(updateSandbox, { workspace, name, ...more }));
}

export function row() {
  return store.workspace(workspace).sandboxes.get(name, clock.nowMs());
}

export function running(): string[] {
  return runningOn([nodes.a, nodes.b]);
}

export async function phasesOn(nodeId: string, made: readonly Sandbox[]) {
  const names = made.filter((sandbox) => sandbox.nodeId === nodeId).map((sandbox) => sandbox.name);
  const rows = await Promise.all(names.map((each) => store.workspace(workspace).sandboxes.get(each, clock.nowMs())));
  return new Set(rows.map((one) => one?.phase));
}

export function beat(node: FakeNode) {
  return clock.until(node.beat());
}

export function beatFor(ms: number): Promise<void> {
  return beatAll([nodes.a, nodes.b], clock, ms);
}
