import { MemoryBus } from '@torpor/bus';
import {
  bookUsage,
  createSandbox,
  deleteSandbox,
  forkSandbox,
  Generation,
  SandboxAsk,
  SandboxName,
  updateSandbox,
  WorkspaceName,
  type Sandbox,
} from '@torpor/contracts';
import { Failure, seededChance } from '@torpor/kernel';
import { memoryStore } from '@torpor/store';
import { silentTelemetry } from '@torpor/telemetry';
import { severable, VirtualClock } from '@torpor/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openScheduler, type Scheduler } from './sandbox-scheduler.ts';
import { beatAll, FakeNode } from './testing/fake-node.ts';

const workspace = WorkspaceName.parse('main');
const name = SandboxName.parse('box');
const forever = new Promise<never>(() => {});

let clock: VirtualClock;
let bus: MemoryBus;
let store: ReturnType<typeof memoryStore>;
let scheduler: Scheduler;
let nodes: Record<'a' | 'b', FakeNode>;

const gateway = () => bus.as('gateway');
const ask = (more: Partial<SandboxAsk> = {}): SandboxAsk => ({
  workspace,
  name,
  reuse: false,
  template: 'base',
  image: 'blaxel/base-image:latest',
  shape: { memoryMib: 512, cpus: 1, diskMib: 1_024, pids: 256 },
  env: { A: '1' },
  ports: [],
  labels: {},
  idle: { kind: 'after', idleMs: 15_000 },
  expiry: {},
  terminatedRetentionMs: 60_000,
  extra: {},
  createdBy: 'user:ada',
  ...more,
});
const create = (more: Partial<SandboxAsk> = {}) => clock.until(gateway().ask(createSandbox, ask(more)));
const end = () => clock.until(gateway().ask(deleteSandbox, { workspace, name, reason: 'asked' }));
const update = (more: object) => clock.until(gateway().ask(updateSandbox, { workspace, name, ...more }));
const row = () => store.workspace(workspace).sandboxes.get(name, clock.nowMs());
const running = () =>
  [nodes.a, nodes.b].flatMap((node) => [...node.instances.values()].map((one) => `${node.id}:${one.name}`));
const beat = (node: FakeNode) => clock.until(node.beat());
let lives: number;
let kill: () => void;
const openRoom = async () => {
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
};
/** As SIGKILL would: nothing it still does reaches anybody. */
const killRoom = () => {
  bus.sever('scheduler');
  kill();
};
const reviveRoom = async () => {
  bus.mend('scheduler');
  await openRoom();
};
/** Sandboxes on both nodes, some on each. */
const createMany = async (count: number, expiry: SandboxAsk['expiry']) => {
  nodes.b.memoryFreeMib = nodes.a.memoryFreeMib;
  await beat(nodes.b);
  const asks = Array.from({ length: count }, (_, n) => ask({ name: SandboxName.parse(`box-${n}`), expiry }));
  const answers = await clock.until(Promise.all(asks.map((one) => gateway().ask(createSandbox, one))));
  return answers.map(({ sandbox }) => sandbox);
};
const phasesOn = async (nodeId: string, made: readonly Sandbox[]) => {
  const names = made.filter((sandbox) => sandbox.nodeId === nodeId).map((sandbox) => sandbox.name);
  const rows = await Promise.all(names.map((each) => store.workspace(workspace).sandboxes.get(each, clock.nowMs())));
  return new Set(rows.map((one) => one?.phase));
};
const beatFor = (ms: number) => beatAll([nodes.a, nodes.b], clock, ms);

beforeEach(async () => {
  clock = new VirtualClock();
  bus = new MemoryBus({ clock });
  store = memoryStore();
  lives = 0;
  await openRoom();
  nodes = { a: new FakeNode('a', bus.as('a'), clock), b: new FakeNode('b', bus.as('b'), clock) };
  nodes.b.memoryFreeMib = 5_000; // so that a is asked first
  for (const node of [nodes.a, nodes.b]) {
    await node.open();
    await beat(node);
  }
});
afterEach(() => scheduler.close());

describe('create', () => {
  it('answers a sandbox that its node runs, ready in the record, with the way to it', async () => {
    const { kind, sandbox, route } = await create();
    expect([kind, sandbox.phase, route.nodeUrl]).toEqual(['created', 'ready', 'http://a:9']);
    expect(await row()).toEqual(sandbox);
    expect(nodes.a.starts).toMatchObject([{ instanceId: sandbox.instanceId, generation: 1, env: { A: '1' }, name }]);
    expect(await gateway().hints.get('route.main.box')).toBe(JSON.stringify(route));
  });

  it('finds a name when none is given', async () => {
    const { name: _name, ...nameless } = ask();
    const { sandbox } = await clock.until(gateway().ask(createSandbox, nameless));
    expect(sandbox.name).toMatch(/^sandbox-[a-z2-9]{8}$/);
  });

  it('gives ten callers who allow reuse the same sandbox, round after round, also right after a delete', async () => {
    for (let round = 1; round <= 3; round++) {
      nodes.a.onStart = () => clock.after(50);
      const asks = Array.from({ length: 10 }, () => gateway().ask(createSandbox, ask({ reuse: true })));
      const answers = await clock.until(Promise.all(asks));
      expect(new Set(answers.map((answer) => answer.sandbox.instanceId)).size).toBe(1);
      expect(answers.filter((answer) => answer.kind === 'created')).toHaveLength(1);
      expect(new Set(answers.map((answer) => answer.sandbox.phase))).toEqual(new Set(['ready']));
      expect(nodes.a.starts).toHaveLength(round);
      await end();
    }
  });

  it('lets callers who allow reuse and deletes race, and everybody converges', async () => {
    nodes.a.onStart = () => clock.after(20);
    const asks = Array.from({ length: 6 }, async (_, n) => {
      await clock.after(n * 7);
      return gateway().ask(createSandbox, ask({ reuse: true }));
    });
    const deletes = [15, 30].map(async (ms) => {
      await clock.after(ms);
      return gateway().ask(deleteSandbox, { workspace, name, reason: 'race' });
    });
    const outcomes = await clock.until(Promise.allSettled([...asks, ...deletes]));
    const codes = outcomes.flatMap((one) => (one.status === 'rejected' ? [one.reason.code] : []));
    expect(codes.filter((code) => !['conflict', 'not_found'].includes(code))).toEqual([]);
    const { sandbox } = await create({ reuse: true });
    await clock.advance(20_000);
    expect(running()).toEqual(['a:box']);
    expect((await row())?.instanceId).toBe(sandbox.instanceId);
  });

  it('refuses a second one of a name, while it is being made and afterwards', async () => {
    nodes.a.onStart = () => clock.after(50);
    const first = gateway().ask(createSandbox, ask());
    await clock.advance(10);
    await expect(create()).rejects.toMatchObject({ code: 'conflict' });
    await clock.until(first);
    await expect(create()).rejects.toMatchObject({ code: 'conflict' });
  });

  it('asks another node when the first refuses, and the first ends what it may have begun', async () => {
    nodes.a.onStart = async () => {
      throw new Failure('no_capacity', 'full');
    };
    const { sandbox, route } = await create();
    expect([sandbox.nodeId, sandbox.generation, route.nodeId]).toEqual(['b', 2, 'b']);
    await clock.advance(1_000);
    expect(nodes.a.stopped).toEqual([`${nodes.a.starts[0]?.instanceId}/1`]);
    expect(await store.wanted.endings({})).toEqual([]);
  });

  it('asks another node when the first does not answer in time, and does not leave it running there', async () => {
    nodes.a.onStarted = () => forever;
    const making = gateway().ask(createSandbox, ask());
    await beatFor(50_000);
    const { sandbox } = await making;
    expect(sandbox.nodeId).toBe('b');
    await clock.advance(30_000);
    expect(running()).toEqual(['b:box']);
  });

  it('leaves no record when no node will have it, and says what each said', async () => {
    for (const node of [nodes.a, nodes.b]) {
      node.onStarted = async () => {
        throw new Failure('no_capacity', 'the pool of disks is full', { retryable: true, retryAfterS: 3 });
      };
    }
    await expect(create()).rejects.toMatchObject({
      code: 'no_capacity',
      retryable: true,
      retryAfterS: 3,
      message: /pool of disks is full/,
    });
    expect(await row()).toBeUndefined();
    await clock.advance(1_000);
    expect(running()).toEqual([]);
  });

  it('blames the caller for an unknown template, at once and with no record', async () => {
    await expect(create({ template: 'cobol' })).rejects.toMatchObject({
      code: 'bad_request',
      message: /no node has the template "cobol"; there is "base"/,
    });
    expect(await row()).toBeUndefined();
  });

  it('says what is wanting when the nodes are full, and that asking again helps', async () => {
    for (const node of [nodes.a, nodes.b]) {
      node.diskFreeMib = 100;
      await beat(node);
    }
    await expect(create()).rejects.toMatchObject({
      code: 'no_capacity',
      retryable: true,
      message: /no node has room for it: a has 100 MiB of disk free, 256 MiB are needed/,
    });
    expect(await row()).toBeUndefined();
  });

  it.each([
    [{ memoryMib: 9_000 }, /it asks for 9000 MiB of memory; the largest node has 8192 MiB/],
    [{ diskMib: 60_001 }, /it asks for 60001 MiB of disk; the largest that a node can give is 60000 MiB/],
  ])('blames the caller for %o, which no node could ever hold', async (size, message) => {
    await expect(create({ shape: { ...ask().shape, ...size } })).rejects.toMatchObject({
      code: 'unprocessable',
      retryable: false,
      message,
    });
    expect(await row()).toBeUndefined();
  });

  it('says unavailable when no node is alive', async () => {
    await clock.advance(60_000);
    await expect(create()).rejects.toMatchObject({ code: 'unavailable', retryable: true });
  });

  it('fails a create whose sandbox is deleted meanwhile, and nothing of it stays', async () => {
    nodes.a.onStart = () => clock.after(50);
    const making = gateway().ask(createSandbox, ask());
    await clock.advance(10);
    await end();
    await expect(clock.until(making)).rejects.toMatchObject({ code: 'conflict', retryable: true });
    await beatFor(10_000);
    expect(running()).toEqual([]);
    expect((await row())?.phase).toBe('terminated');
  });

  it('replaces one that had failed', async () => {
    const { sandbox } = await create();
    nodes.a.instances.clear();
    await beatFor(15_000);
    expect(await row()).toMatchObject({ phase: 'failed', reason: 'its node no longer has it' });
    const again = await create({ reuse: true });
    expect(again.kind).toBe('created');
    expect(again.sandbox.instanceId).not.toBe(sandbox.instanceId);
  });
});

describe('a scheduler that dies', () => {
  it('while a create waits for the node: a caller who allows reuse gets that very sandbox from the next one', async () => {
    nodes.a.onStart = () => clock.after(500);
    const lost = gateway().ask(createSandbox, ask());
    lost.catch(() => {});
    await clock.advance(100);
    killRoom();
    await reviveRoom();
    const { kind, sandbox } = await create({ reuse: true });
    expect([kind, sandbox.generation]).toEqual(['existing', 1]);
    expect(sandbox.instanceId).toBe(nodes.a.starts[0]?.instanceId);
    expect(running()).toEqual(['a:box']);
  });

  it('while a create waits, and nobody asks again: it is wholly gone in the end', async () => {
    nodes.a.onStarted = () => forever;
    nodes.b.onStarted = () => forever;
    gateway()
      .ask(createSandbox, ask())
      .catch(() => {});
    await clock.advance(100);
    killRoom();
    nodes.a.onStarted = nodes.b.onStarted = async () => {};
    await reviveRoom();
    await beatFor(100_000);
    expect([await row(), running()]).toEqual([undefined, []]);
    await expect(create()).resolves.toMatchObject({ kind: 'created' });
  });

  it('after a delete was committed and before the node heard: the next one tells it', async () => {
    await create();
    nodes.a.onStop = () => forever;
    gateway()
      .ask(deleteSandbox, { workspace, name, reason: 'asked' })
      .catch(() => {});
    await clock.advance(100);
    killRoom();
    nodes.a.onStop = async () => {};
    await reviveRoom();
    await clock.advance(10_000);
    expect([running(), await store.wanted.endings({})]).toEqual([[], []]);
  });

  it('in the middle of a restart: the sandbox is started again, with the new env', async () => {
    await create();
    nodes.a.onStart = () => forever;
    gateway()
      .ask(updateSandbox, { workspace, name, env: { B: '2' } })
      .catch(() => {});
    await clock.advance(100);
    killRoom();
    nodes.a.onStart = async () => {};
    await reviveRoom();
    await beatFor(100_000);
    expect(await row()).toMatchObject({ phase: 'ready', generation: 2, envNames: ['B'] });
    expect([...nodes.a.instances.values()].map((one) => one.env)).toEqual([{ B: '2' }]);
  });
});

describe('delete', () => {
  it('answers the sandbox as it was ended, and its node runs it no more', async () => {
    await create();
    expect((await end()).sandbox).toMatchObject({ phase: 'terminated', reason: 'asked' });
    expect(running()).toEqual([]);
    expect(await gateway().hints.get('route.main.box')).toBeUndefined();
    await expect(end()).rejects.toMatchObject({ code: 'not_found' });
  });

  it('answers though the node is away, and the node ends it when it is back', async () => {
    await create();
    bus.sever('a');
    const before = clock.nowMs();
    await end();
    expect(clock.nowMs() - before).toBeLessThan(10_000);
    expect(running()).toEqual(['a:box']);
    bus.mend('a');
    const back = new FakeNode('a', bus.as('a'), clock);
    for (const [key, instance] of nodes.a.instances) back.instances.set(key, instance);
    nodes.a = back;
    await back.open();
    await beatFor(10_000);
    expect([running(), await store.wanted.endings({})]).toEqual([[], []]);
  });

  it('ends it even when it had failed', async () => {
    await create();
    nodes.a.instances.clear();
    await beatFor(15_000);
    expect((await end()).sandbox.phase).toBe('terminated');
  });
});

describe('update', () => {
  it('changes in place what is given, and the node hears of a new idle policy', async () => {
    const { sandbox } = await create({ labels: { a: '1' }, displayName: 'One' });
    const { sandbox: changed } = await update({ labels: { b: '2' }, idle: { kind: 'never' }, env: { A: '1' } });
    expect(changed).toMatchObject({
      labels: { b: '2' },
      displayName: 'One',
      instanceId: sandbox.instanceId,
      generation: 1,
    });
    expect([...nodes.a.instances.values()]).toMatchObject([{ idle: { kind: 'never' } }]);
    expect(nodes.a.starts).toHaveLength(1);
  });

  it('restarts with a changed env as the next generation, and the old instance ends', async () => {
    const { sandbox } = await create();
    const { sandbox: changed } = await update({ env: { A: '2' } });
    expect([changed.phase, changed.generation]).toEqual(['ready', 2]);
    await clock.advance(1_000);
    expect(nodes.a.stopped).toEqual([`${sandbox.instanceId}/1`]);
    expect([...nodes.a.instances.values()].map((one) => [one.generation, one.env])).toEqual([[2, { A: '2' }]]);
  });

  it('says failed, with the reason, when no node will start it again', async () => {
    await create();
    nodes.a.onStart = nodes.b.onStart = async () => {
      throw new Failure('no_capacity', 'full');
    };
    await expect(update({ env: {} })).rejects.toMatchObject({ code: 'no_capacity' });
    expect(await row()).toMatchObject({ phase: 'failed', reason: /full/ });
  });

  it('tells a node again that goes by an old policy', async () => {
    const { sandbox } = await create();
    await store.wanted.revise(workspace, name, { idle: { kind: 'never' } }, clock.nowMs());
    await beat(nodes.a);
    await clock.advance(10);
    expect(nodes.a.instances.get(`${sandbox.instanceId}/1`)?.idle).toEqual({ kind: 'never' });
  });

  it('knows none that does not exist', async () => {
    await expect(update({ labels: {} })).rejects.toMatchObject({ code: 'not_found' });
  });
});

describe('fork', () => {
  const child = SandboxName.parse('child');
  const fork = (more: object = {}) =>
    clock.until(gateway().ask(forkSandbox, { workspace, name, as: child, env: {}, createdBy: 'user:bo', ...more }));

  it('snapshots the parent and starts another of it on the same node, under an identity and a greater generation of its own', async () => {
    const { sandbox: parent } = await create({ labels: { l: '1' } });
    const { sandbox, route, snapshot } = await fork({ env: { B: '2' } });
    expect(nodes.a.snapshots).toEqual([parent.instanceId]);
    expect(sandbox).toMatchObject({
      name: child,
      generation: 2,
      phase: 'ready',
      labels: { l: '1' },
      createdBy: 'user:bo',
    });
    expect(sandbox.origin).toEqual({ instanceId: parent.instanceId, name, snapshot });
    expect([sandbox.envNames, sandbox.instanceId === parent.instanceId, route.nodeId]).toEqual([
      ['A', 'B'],
      false,
      'a',
    ]);
    expect(nodes.a.starts.at(-1)).toMatchObject({
      from: { instanceId: parent.instanceId, snapshot },
      env: { A: '1', B: '2' },
    });
  });

  it('of a snapshot that is named makes no other one', async () => {
    await create();
    await fork({ snapshot: 'one' });
    expect([nodes.a.snapshots, nodes.a.starts.at(-1)?.from?.snapshot]).toEqual([[], 'one']);
  });

  it('is refused before the parent stalls when its name is taken, its parent is none, or its node is full', async () => {
    await create();
    await create({ name: child });
    await expect(fork()).rejects.toMatchObject({ code: 'conflict' });
    await expect(fork({ name: 'nobody' })).rejects.toMatchObject({ code: 'not_found' });
    nodes.a.memoryFreeMib = 100;
    await beat(nodes.a);
    await expect(fork({ as: 'other' })).rejects.toMatchObject({ code: 'no_capacity' });
    expect(nodes.a.snapshots).toEqual([]);
  });

  it('goes to no other node, and leaves no record, when its own will not start it', async () => {
    await create();
    nodes.a.onStart = async () => {
      throw new Failure('unavailable', 'the snapshot is damaged', { retryable: true });
    };
    await expect(fork()).rejects.toThrow(/the snapshot is damaged/);
    expect(await store.workspace(workspace).sandboxes.get(child, clock.nowMs())).toBeUndefined();
    expect(nodes.b.starts).toEqual([]);
  });

  it('whose scheduler dies meanwhile is wholly gone in the end', async () => {
    await create();
    nodes.a.onStart = () => forever;
    const lost = gateway().ask(forkSandbox, { workspace, name, as: child, env: {}, createdBy: 'user:bo' });
    lost.catch(() => {}); // nobody answers it
    await clock.advance(1_000);
    killRoom();
    nodes.a.onStart = async () => {};
    await reviveRoom();
    await beatFor(120_000);
    expect(await store.workspace(workspace).sandboxes.get(child, clock.nowMs())).toBeUndefined();
    expect(running()).toEqual(['a:box']);
  });

  it('that is restarted with another env begins anew, as any other', async () => {
    await create();
    await fork();
    const { sandbox } = await clock.until(gateway().ask(updateSandbox, { workspace, name: child, env: { C: '3' } }));
    expect([sandbox.origin, nodes.a.starts.at(-1)?.from, nodes.a.starts.at(-1)?.env]).toEqual([
      undefined,
      undefined,
      { C: '3' },
    ]);
  });
});

describe('heartbeats', () => {
  it('say which instances must end: of endings and of generations that have passed, never of those that no record knows', async () => {
    const { sandbox } = await create();
    const report = nodes.a.instances.get(`${sandbox.instanceId}/1`);
    if (!report) throw new Error('the node has the instance');
    await end();
    nodes.a.instances.set('late start', report);
    const other = { ...report, instanceId: ask().name as never, generation: Generation.parse(1) }; // an id nobody made
    nodes.a.instances.set('orphan', { ...other, instanceId: 'iorphanorphan' as never });
    const { unwanted } = await beat(nodes.a);
    expect(unwanted).toEqual([{ instanceId: sandbox.instanceId, generation: 1 }]);
  });

  it('do not fail a sandbox that one report, older than its creation, does not know', async () => {
    await create();
    const { instances } = nodes.a;
    const held = new Map(instances);
    instances.clear();
    const stale = nodes.a.beat();
    for (const [key, instance] of held) instances.set(key, instance);
    await clock.until(stale);
    instances.clear();
    const alsoStale = nodes.a.beat(); // the same report, delivered twice
    for (const [key, instance] of held) instances.set(key, instance);
    await clock.until(alsoStale);
    await clock.advance(5_000);
    expect((await row())?.phase).toBe('ready');
  });

  it('take a report of a broken instance at its word', async () => {
    const { sandbox } = await create();
    const report = nodes.a.instances.get(`${sandbox.instanceId}/1`);
    if (report)
      nodes.a.instances.set(`${sandbox.instanceId}/1`, { ...report, state: 'failed', reason: 'its process died' });
    await beat(nodes.a);
    expect(await row()).toMatchObject({ phase: 'failed', reason: 'its process died' });
    // Its files are kept by its node: neither this report nor the next ends it, and a delete does.
    expect((await beat(nodes.a)).unwanted).toEqual([]);
    expect(nodes.a.stopped).toEqual([]);
    await end();
    await clock.advance(1_000);
    expect(nodes.a.stopped).toEqual([`${sandbox.instanceId}/1`]);
  });

  it('give a lease only when there is more than one node', async () => {
    expect((await beat(nodes.a)).leaseMs).toBe(20_000);
    const lonely = new MemoryBus({ clock });
    const alone = await openScheduler({
      store: memoryStore(),
      wire: lonely.as('s'),
      clock,
      chance: seededChance(1),
      telemetry: silentTelemetry(),
    });
    const node = new FakeNode('only', lonely.as('only'), clock);
    expect((await beat(node)).leaseMs).toBe(0);
    await alone.close();
  });

  it('carry the latest use into the record', async () => {
    const { sandbox } = await create();
    const report = nodes.a.instances.get(`${sandbox.instanceId}/1`);
    const usedAtMs = clock.nowMs() + 1_234;
    if (report) nodes.a.instances.set(`${sandbox.instanceId}/1`, { ...report, lastUsedAtMs: usedAtMs });
    await beat(nodes.a);
    expect((await row())?.lastUsedAtMs).toBe(usedAtMs);
  });
});

describe('expiry', () => {
  it('ends a sandbox when its time has come, not before, and keeps it readable for its retention', async () => {
    await create({ expiry: { maxAgeMs: 3_000 } });
    await clock.advance(2_900);
    expect((await row())?.phase).toBe('ready');
    await clock.advance(200);
    expect(await row()).toMatchObject({ phase: 'terminated', reason: 'expired: max age' });
    expect(running()).toEqual([]);
    await clock.advance(61_000);
    expect(await row()).toBeUndefined();
  });

  it('hears of an end that was brought forward', async () => {
    await create({ expiry: { maxAgeMs: 3_600_000 } });
    await update({ expiry: { atMs: clock.nowMs() + 1_000 } });
    await clock.advance(1_100);
    expect((await row())?.phase).toBe('terminated');
  });

  it('asks the node before it ends an idle one, and counts from its latest use', async () => {
    const { sandbox } = await create({ expiry: { idleMs: 10_000 } });
    await clock.advance(8_000);
    const report = nodes.a.instances.get(`${sandbox.instanceId}/1`);
    if (report) nodes.a.instances.set(`${sandbox.instanceId}/1`, { ...report, lastUsedAtMs: clock.nowMs() });
    await clock.advance(9_000);
    expect((await row())?.phase).toBe('ready');
    await clock.advance(2_000);
    expect(await row()).toMatchObject({ phase: 'terminated', reason: 'expired: idle' });
  });

  it('ends no idle one while its node cannot be asked', async () => {
    await create({ expiry: { idleMs: 10_000 } });
    bus.sever('a');
    await clock.advance(60_000);
    expect((await row())?.phase).toBe('ready');
  });

  it('of one node’s idle sandboxes does not wait for those of another that is silent', async () => {
    const made = await createMany(16, { idleMs: 10_000 });
    nodes.a.onDescribe = () => forever;
    await clock.advance(11_000);
    expect(await phasesOn('b', made)).toEqual(new Set(['terminated']));
    expect(await phasesOn('a', made)).toEqual(new Set(['ready']));
    nodes.a.onDescribe = async () => {};
    await beatFor(20_000);
    expect(await phasesOn('a', made)).toEqual(new Set(['terminated']));
  });

  it('lets nobody reuse one that is due', async () => {
    const { sandbox } = await create({ expiry: { atMs: clock.nowMs() + 5_000 } });
    bus.sever('scheduler');
    kill();
    await clock.advance(6_000);
    await reviveRoom();
    const again = await create({ reuse: true });
    expect(again.sandbox.instanceId).not.toBe(sandbox.instanceId);
  });
});

describe('repair', () => {
  it('ends what must end on one node, while another is silent', async () => {
    const made = await createMany(16, {});
    nodes.a.onStop = () => forever;
    for (const { name: each } of made)
      await store.wanted.terminate(workspace, each, { reason: 'by another scheduler', atMs: clock.nowMs() });
    await clock.advance(6_000);
    expect(new Set(running().map((one) => one.slice(0, 1)))).toEqual(new Set(['a']));
    nodes.a.onStop = async () => {};
    await beatFor(40_000);
    expect([running(), await store.wanted.endings({})]).toEqual([[], []]);
  });
});

describe('retention', () => {
  it('lets go of usage and audit rows that were kept long enough, and of no others', async () => {
    const { sandbox } = await create();
    const { instanceId, generation, nodeId } = sandbox;
    const figures = { cpuMs: 1, memoryMibMs: 1, egressBytes: 1, diskMib: 1, tier: 'running' as const };
    const dayMs = 24 * 3_600_000;
    const daysAgo = (days: number) => clock.nowMs() - days * dayMs;
    const ended = (days: number) => ({
      ...figures,
      ...{ workspace, instanceId, generation, sequence: days },
      fromMs: daysAgo(days) - 1,
      toMs: daysAgo(days),
    });
    await store.usage.book(nodeId, [ended(401), ended(399)]);
    for (const days of [500, 401, 399, 1])
      await store.audit.append({ atMs: daysAgo(days), actor: 'user:ada', action: 'sandbox.create', outcome: 'ok' });
    await clock.advance(3_600_000);
    expect(await store.audit.verify()).toEqual({ rows: 2 });
    const sums = await store.workspace(workspace).usage.sum({ fromMs: 0, toMs: clock.nowMs() });
    expect(sums).toMatchObject([{ instanceId, spanMs: 1 }]);
  });
});

describe('usage', () => {
  it('is not booked for a node that does not have the sandbox', async () => {
    const { sandbox } = await create();
    const { instanceId, generation } = sandbox;
    const figures = { cpuMs: 1, memoryMibMs: 1, egressBytes: 1, diskMib: 1, tier: 'running' as const };
    const interval = { ...figures, workspace, instanceId, generation, sequence: 0, fromMs: 1, toMs: 2 };
    const body = { nodeId: nodes.b.id, intervals: [interval] };
    expect(await clock.until(gateway().ask(bookUsage, body))).toEqual({ booked: 0 });
  });

  it('books an interval once', async () => {
    const { sandbox } = await create();
    const { instanceId, generation } = sandbox;
    const times = {
      fromMs: 1,
      toMs: 2,
      tier: 'running' as const,
      cpuMs: 1,
      memoryMibMs: 1,
      egressBytes: 1,
      diskMib: 1,
    };
    const body = { nodeId: nodes.a.id, intervals: [{ workspace, instanceId, generation, sequence: 0, ...times }] };
    expect(await clock.until(gateway().ask(bookUsage, body))).toEqual({ booked: 1 });
    expect(await clock.until(gateway().ask(bookUsage, body))).toEqual({ booked: 0 });
  });
});
