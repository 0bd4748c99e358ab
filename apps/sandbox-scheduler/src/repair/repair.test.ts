import { describe, expect, it } from 'vitest';
import { workspace, forever, clock, store, nodes, running, createMany, beatFor } from '../testing/stage.ts';

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
