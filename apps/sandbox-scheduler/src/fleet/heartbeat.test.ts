import { MemoryBus } from '@torpor/bus';
import { Generation } from '@torpor/contracts';
import { seededChance } from '@torpor/kernel';
import { memoryStore } from '@torpor/store';
import { silentTelemetry } from '@torpor/telemetry';
import { describe, expect, it } from 'vitest';
import { openScheduler } from '../sandbox-scheduler.ts';
import { FakeNode } from '../testing/fake-node.ts';
import { clock, nodes, ask, create, end, row, beat, beatFor } from '../testing/stage.ts';

describe('heartbeats', () => {
  it('say which instances must end: of endings, never of those that no record knows', async () => {
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

  it('bring a record up to a node that is ahead of it, and end nothing', async () => {
    const { sandbox } = await create();
    const key = `${sandbox.instanceId}/1`;
    const report = nodes.a.instances.get(key);
    if (!report) throw new Error('the node has the instance');
    nodes.a.instances.delete(key);
    nodes.a.instances.set(`${sandbox.instanceId}/4`, { ...report, generation: Generation.parse(4) });
    expect((await beat(nodes.a)).unwanted).toEqual([]);
    await beatFor(60_000);
    expect(await row()).toMatchObject({ phase: 'ready', generation: 4 });
    expect(nodes.a.stopped).toEqual([]);
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
    await beatFor(15_000);
    expect((await row())?.lastUsedAtMs).toBe(usedAtMs);
  });
});
