import { drainNode, drainProgress, moveSandbox, NodeId, SandboxName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { describe, expect, it } from 'vitest';
import {
  ask,
  beatFor,
  clock,
  create,
  end,
  forever,
  gateway,
  killRoom,
  name,
  nodes,
  reviveRoom,
  row,
  running,
  store,
  workspace,
} from '../testing/stage.ts';

const [a, b] = ['a', 'b'].map((id) => NodeId.parse(id)) as [NodeId, NodeId]; // two go in, two come out
const move = (to?: NodeId) => clock.until(gateway().ask(moveSandbox, { workspace, name, ...(to ? { to } : {}) }));
const drain = (nodeId: NodeId, wanted = true) => clock.until(gateway().ask(drainNode, { nodeId, drain: wanted }));
const progress = (nodeId: NodeId) => clock.until(gateway().ask(drainProgress, { nodeId }));
const refuse = async () => {
  throw new Failure('unprocessable', 'no, thank you');
};

/** The record, what nodes hold, and what is still open, agree: it lives there alone. */
async function expectHome(at: NodeId, generation: number): Promise<void> {
  await beatFor(15_000);
  expect(await row()).toMatchObject({ nodeId: at, generation, phase: 'ready' });
  expect(running()).toEqual([`${at}:${name}`]);
  expect([...nodes.a.leaving, ...nodes.b.leaving].filter((key) => nodes[at as 'a' | 'b'].instances.has(key))).toEqual(
    [],
  );
  expect(await store.moves.open()).toEqual([]);
  expect(await store.wanted.endings({})).toEqual([]);
}

describe('a move', () => {
  it('gives the sandbox the other node and the next generation, and ends what it left', async () => {
    await create();
    const { sandbox, route, from } = await move(b);
    expect([from, route.nodeId, route.nodeUrl, sandbox.generation]).toEqual([a, b, 'http://b:9', 2]);
    await expectHome(b, 2);
    await move();
    await expectHome(a, 3);
  });

  it('is refused, and nothing changed, when the other node is missing something, and says what', async () => {
    await create();
    nodes.b.make = { ...nodes.b.make, isolation: 'fake-2' };
    await expect(move(b)).rejects.toThrow(/node "b" is missing the isolation "fake-1"/);
    await expect(move()).rejects.toThrow(/is missing/);
    await expect(move(a)).rejects.toThrow(/lives on node "a"/);
    await expect(move(NodeId.parse('nowhere'))).rejects.toThrow(/no node/);
    expect([nodes.a.leaving.size, await store.moves.open()]).toEqual([0, []]);
    await expectHome(a, 1);
  });

  it.each([
    ['it will not leave', () => void (nodes.a.onLeave = refuse)],
    ['it cannot be fetched', () => void (nodes.b.onFetch = refuse)],
    ['its fetch has no answer but a refusal', () => void (nodes.b.onFetched = refuse)],
  ])('is cancelled when %s, and the sandbox stays where it is, under the same generation', async (_, prepare) => {
    await create();
    prepare();
    await expect(move(b)).rejects.toThrow(/did not move to node "b" and lives on "a".*no, thank you/);
    await expectHome(a, 1);
    nodes.a.onLeave = nodes.b.onFetch = nodes.b.onFetched = async () => {};
    await move(b);
    expect((await row())?.nodeId).toBe(b);
  });

  it('tries again what may pass', async () => {
    await create();
    let tries = 0;
    nodes.b.onFetch = async () => {
      if ((tries += 1) < 3) throw new Failure('unavailable', 'later', { retryable: true });
    };
    await move(b);
    expect(tries).toBe(3);
    await expectHome(b, 2);
  });

  it('tells the node that it stays until it has heard', async () => {
    await create();
    nodes.b.onFetch = refuse;
    nodes.a.onStay = () => Promise.reject(new Failure('unavailable', 'busy', { retryable: true }));
    await expect(move(b)).rejects.toThrow(/no, thank you/);
    expect(await store.moves.open()).toMatchObject([{ cancelled: expect.stringContaining('no, thank you') }]);
    await expect(move(b)).rejects.toMatchObject({ code: 'conflict', retryable: true });
    nodes.a.onStay = async () => {};
    await expectHome(a, 1);
  });

  it('does not outlive the sandbox', async () => {
    await create();
    nodes.b.onFetched = async () => void (await end());
    await expect(move(b)).rejects.toMatchObject({ code: 'conflict' });
    await beatFor(15_000);
    expect([running(), await store.moves.open(), await store.wanted.endings({})]).toEqual([[], [], []]);
  });

  it.each([
    ['before it has left', () => Object.assign(nodes.a, { onLeave: dying }), b, 2],
    ['before it was fetched', () => Object.assign(nodes.b, { onFetch: dying }), b, 2],
    ['after it was fetched', () => Object.assign(nodes.b, { onFetched: dying }), b, 2],
  ] as const)('is taken up when the scheduler is killed %s', async (_, prepare, home, generation) => {
    await create();
    prepare();
    void gateway()
      .ask(moveSandbox, { workspace, name, to: b })
      .catch(() => {}); // nobody is left to answer
    await clock.advance(1_000);
    nodes.a.onLeave = nodes.b.onFetch = nodes.b.onFetched = async () => {};
    await reviveRoom();
    await beatFor(30_000);
    expect((await row())?.nodeId).toBe(home);
    await expectHome(home, generation);
  });
});

async function dying(): Promise<void> {
  killRoom();
  return await forever;
}

describe('a drained node', () => {
  it('gives up all that lives there, takes nothing new, and says how far it is', async () => {
    await create();
    for (const other of ['two', 'three', 'four']) await create({ name: SandboxName.parse(other) });
    expect(running().every((one) => one.startsWith('a:'))).toBe(true);
    await drain(a);
    expect(await progress(a)).toMatchObject({ left: 4 });
    await beatFor(30_000);
    expect(await progress(a)).toEqual({ left: 0, moving: 0, troubles: [], stays: { volumes: 0, snapshots: 0 } });
    expect(running().every((one) => one.startsWith('b:'))).toBe(true);
    expect((await create({ name: SandboxName.parse('late') })).route.nodeId).toBe(b);
    await expect(move(a)).rejects.toThrow(/drained|no node/);
    await drain(a, false);
    expect((await move(a)).sandbox.nodeId).toBe(a);
  });

  it('stores what can go nowhere, and says why', async () => {
    await create();
    nodes.b.make = { ...nodes.b.make, templates: {} };
    await drain(a);
    await beatFor(5_000);
    expect(await progress(a)).toMatchObject({
      left: 1,
      troubles: [{ name, reason: expect.stringContaining('missing') }],
    });
    expect([...nodes.a.instances.values()].map(({ state }) => state)).toEqual(['stored']);
    nodes.b.make = { ...nodes.b.make, templates: { base: 'base-1' } };
    await beatFor(40_000);
    expect(await progress(a)).toMatchObject({ left: 0 });
  });

  it('refuses creates when every node is drained', async () => {
    await drain(a);
    await drain(b);
    const more = ask({ name: SandboxName.parse('none') });
    await expect(create(more)).rejects.toThrow(/every node that is alive is being drained/);
    await expect(drain(NodeId.parse('nobody'))).rejects.toMatchObject({ code: 'not_found' });
  });
});
