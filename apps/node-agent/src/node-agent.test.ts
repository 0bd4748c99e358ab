import { MemoryBus } from '@torpor/bus';
import {
  bookUsage,
  heartbeat,
  instanceChanged,
  NodeId,
  pauseInstance,
  describeInstance,
  resumeInstance,
  setInstancePolicy,
  startInstance,
  stopInstance,
  dataPlanePath,
  DATA_KEY_HEADER,
} from '@torpor/contracts';
import { seededChance } from '@torpor/kernel';
import { fakeDriver } from '@torpor/runtime';
import { silentTelemetry } from '@torpor/telemetry';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NodeKey } from './images/node-key.ts';
import { nodeAgent, type NodeAgent } from './node-agent.ts';
import { memoryNote } from './note.ts';
import { SHAPE, settle, stage, startAsk, StillClock, type Stage } from './rehearsal.ts';

const NODE = NodeId.parse('n1');
const node = { node: 'n1' };
let clock: StillClock;
let set: Stage;
let bus: MemoryBus;
let room: NodeAgent;
let notes: { lease: ReturnType<typeof memoryNote>; metering: ReturnType<typeof memoryNote> };
const scheduler = {
  beats: 0,
  leaseMs: 0,
  unwanted: [] as { instanceId: string; generation: number }[],
  last: undefined as undefined | { instances: readonly { state: string }[] },
};

async function open(): Promise<NodeAgent> {
  return await nodeAgent({
    nodeId: NODE,
    url: 'http://node',
    isolation: 'none',
    listen: { host: '127.0.0.1', port: 0 },
    dataKey: 'key',
    pools: [{ template: 'base', shape: SHAPE, size: 1 }],
    refillCpuShare: 0.5,
    nodeKey: new NodeKey(new Uint8Array(32)),
    leanAfterMs: 0,
    swap: 'auto',
    storeAfterMs: 0,
    snapshotPolicy: { automaticMax: 3 },
    birthsAtOnce: 4,
    recipeOf: (template) => ({ template, workdir: '/blaxel', user: 'root', env: {} }),
    clock,
    chance: seededChance(7 + set.host.calls.length),
    wire: bus.as('node'),
    driver: fakeDriver(set.host),
    telemetry: silentTelemetry(),
    journalStore: set.store,
    volumeStore: set.volumeStore,
    notes,
  });
}

async function serveScheduler(): Promise<void> {
  const wire = bus.as('scheduler');
  await wire.serve(heartbeat, async (beat) => {
    scheduler.beats++;
    scheduler.last = beat;
    const unwanted = scheduler.unwanted.map((one) => ({ ...one }));
    return heartbeat.reply.parse({ leaseMs: scheduler.leaseMs, unwanted });
  });
  await wire.serve(bookUsage, async ({ intervals }) => ({ booked: intervals.length }));
}

beforeEach(async () => {
  clock = new StillClock();
  set = stage(clock);
  bus = new MemoryBus({ clock });
  notes = { lease: memoryNote(), metering: memoryNote() };
  Object.assign(scheduler, { beats: 0, leaseMs: 0, unwanted: [], last: undefined });
  await serveScheduler();
  room = await open();
  await clock.go(10);
});

afterEach(async () => {
  const closed = room.close();
  await clock.go(1_000);
  await closed;
});

const wire = () => bus.as('gateway');
const target = { instanceId: startAsk().instanceId, generation: startAsk().generation };
const start = () => wire().ask(startInstance, { ...startAsk(), env: {} }, node);

describe('a node, as other rooms see it', () => {
  it('starts, describes, pauses, wakes, and ends an instance', async () => {
    expect(await start()).toMatchObject({ from: 'pool', isolation: 'none' });
    expect(await start()).toMatchObject({ from: 'existing' });
    expect(await wire().ask(describeInstance, target, node)).toMatchObject({
      instance: { state: 'running', name: 'box' },
    });
    expect(await wire().ask(pauseInstance, target, node)).toMatchObject({ state: 'paused' });
    expect(await wire().ask(resumeInstance, target, node)).toMatchObject({ state: 'running' });
    await wire().ask(setInstancePolicy, { ...target, idle: { kind: 'never' } }, node);
    expect(await wire().ask(stopInstance, { ...target, reason: 'asked' }, node)).toEqual({ existed: true });
    await settle();
    expect(await wire().ask(describeInstance, target, node)).toEqual({});
    await expect(wire().ask(pauseInstance, target, node)).rejects.toMatchObject({ code: 'misdirected' });
  });

  it('is told of at once when the set of instances changes, and every two seconds besides', async () => {
    const before = scheduler.beats;
    await start();
    await clock.go(100);
    expect(scheduler.beats).toBeGreaterThan(before);
    expect(scheduler.last?.instances).toMatchObject([{ state: 'running' }]);
    const then = scheduler.beats;
    await clock.go(10_000);
    expect(scheduler.beats - then).toBeGreaterThanOrEqual(5);
  });

  it('tells watchers what happens', async () => {
    const heard: string[] = [];
    await wire().hear(instanceChanged, ({ what, instance }) => void heard.push(`${what}: ${instance.because}`));
    await start();
    await clock.go(16_000);
    await wire().ask(resumeInstance, target, node);
    await settle();
    expect(heard).toEqual([
      'created: request',
      'pausing: idle',
      'fell asleep: idle',
      'waking: request',
      'woke: request',
    ]);
  });

  it('has metered, when it has gone to rest, what was used until all slept', async () => {
    await start();
    const act = set.host.act.bind(set.host);
    set.host.act = async (verb, id, work) => {
      if (verb === 'sandbox.stats') await clock.after(50);
      return await act(verb, id, work);
    };
    const rested = room.rest();
    await clock.go(1_000);
    await rested;
    expect(JSON.parse((await notes.metering.read()) ?? '')).toMatchObject({
      points: [{ tier: 'paused' }],
      waiting: [{ tier: 'running' }],
    });
  });

  it('ends what nobody wants, at that generation only', async () => {
    await start();
    scheduler.unwanted = [{ ...target, generation: 2 }];
    await clock.go(3_000);
    expect(room.standby.size).toBe(1);
    scheduler.unwanted = [target];
    await clock.go(3_000);
    expect(room.standby.size).toBe(0);
  });

  it('serves the data plane', async () => {
    await start();
    const url = `http://127.0.0.1:${room.dataPlane?.port}${dataPlanePath(target, 'guest', '/v1/health')}`;
    const answer = await fetch(url, { headers: { [DATA_KEY_HEADER]: 'key' } });
    expect(await answer.json()).toMatchObject({ claimed: true, generation: 1 });
  });
});

describe('the lease', () => {
  it('that ends freezes every instance, and a renewal undoes it', async () => {
    scheduler.leaseMs = 20_000;
    await start();
    await wire().ask(setInstancePolicy, { ...target, idle: { kind: 'never' } }, node);
    await clock.go(5_000);
    bus.sever('scheduler');
    await clock.go(17_000);
    expect((await room.health()).fenced).toBe(false);
    await clock.go(6_000);
    expect((await room.health()).fenced).toBe(true);
    const frozen = await wire().ask(describeInstance, target, node);
    expect(frozen.instance?.state).toBe('paused');
    bus.mend('scheduler');
    await serveScheduler();
    await clock.go(3_000);
    const thawed = await wire().ask(describeInstance, target, node);
    expect([(await room.health()).fenced, thawed.instance?.state]).toEqual([false, 'running']);
  });

  it('outlives the node-agent: a restart gives it no time that it does not have', async () => {
    scheduler.leaseMs = 20_000;
    await start();
    await clock.go(5_000);
    bus.sever('scheduler');
    await clock.go(15_000);
    const closed = room.close();
    await clock.go(10);
    await closed;
    room = await open();
    await clock.go(6_000);
    expect((await room.health()).fenced).toBe(true);
  });

  it('of a single box does not exist: a scheduler that is gone freezes nothing', async () => {
    await start();
    bus.sever('scheduler');
    await wire().ask(setInstancePolicy, { ...target, idle: { kind: 'never' } }, node);
    await clock.go(600_000);
    expect((await room.health()).fenced).toBe(false);
    const { instance } = await wire().ask(describeInstance, target, node);
    expect(instance?.state).toBe('running');
  });
});
