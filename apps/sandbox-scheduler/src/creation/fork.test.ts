import { ENV_BYTES_MAX, forkSandbox, SandboxName } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { describe, expect, it } from 'vitest';
import {
  workspace,
  name,
  forever,
  clock,
  store,
  nodes,
  gateway,
  create,
  update,
  running,
  killRoom,
  reviveRoom,
  beat,
  beatFor,
} from '../testing/stage.ts';

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

  it('is refused before the parent stalls when its environment and its parent’s are too heavy together', async () => {
    const half = 'x'.repeat(ENV_BYTES_MAX / 2);
    await create({ env: { A: half } });
    await expect(fork({ env: { B: half } })).rejects.toMatchObject({ code: 'bad_request' });
    expect(nodes.a.snapshots).toEqual([]);
    await expect(fork({ env: { A: half } })).resolves.toMatchObject({ sandbox: { envNames: ['A'] } });
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
    const { sandbox } = await update({ name: child, env: { C: '3' } });
    expect([sandbox.origin, nodes.a.starts.at(-1)?.from, nodes.a.starts.at(-1)?.env]).toEqual([
      undefined,
      undefined,
      { C: '3' },
    ]);
  });
});
