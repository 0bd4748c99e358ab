import { Failure } from '@torpor/kernel';
import { describe, expect, it } from 'vitest';
import { workspace, name, clock, store, nodes, create, update, row, beat } from '../testing/stage.ts';

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

  it('tells its node of a wake budget: its own, or that of the workspace when it has none', async () => {
    const budget = () => [...nodes.a.instances.values()].map(({ wakeBudget }) => wakeBudget);
    await store.workspaces.create({ name: workspace, displayName: 'W', createdAtMs: 0, createdBy: 'user:ada' });
    await store.workspaces.setWakeBudget(workspace, { kind: 'p99', ms: 40 });
    await create({ wakeBudget: { kind: 'cheapest' } });
    expect(budget()).toEqual([{ kind: 'cheapest' }]);
    await update({ wakeBudget: null });
    expect(budget()).toEqual([{ kind: 'p99', ms: 40 }]);
    await store.workspaces.setWakeBudget(workspace, undefined);
    await beat(nodes.a);
    await clock.advance(1_000);
    expect(budget()).toEqual([undefined]);
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
