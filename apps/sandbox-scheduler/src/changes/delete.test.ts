import { describe, expect, it } from 'vitest';
import { FakeNode } from '../testing/fake-node.ts';
import { clock, bus, store, nodes, gateway, create, end, running, beatFor } from '../testing/stage.ts';

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
