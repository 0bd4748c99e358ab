import { bookUsage, createSandbox, deleteSandbox, updateSandbox } from '@torpor/contracts';
import { describe, expect, it } from 'vitest';
import {
  workspace,
  name,
  forever,
  clock,
  store,
  nodes,
  gateway,
  ask,
  create,
  row,
  running,
  killRoom,
  reviveRoom,
  beatFor,
} from './testing/stage.ts';

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
