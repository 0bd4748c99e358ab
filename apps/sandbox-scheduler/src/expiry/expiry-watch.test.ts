import { describe, expect, it } from 'vitest';
import {
  forever,
  clock,
  bus,
  nodes,
  create,
  update,
  row,
  running,
  killRoom,
  reviveRoom,
  createMany,
  phasesOn,
  beatFor,
} from '../testing/stage.ts';

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
    killRoom();
    await clock.advance(6_000);
    await reviveRoom();
    const again = await create({ reuse: true });
    expect(again.sandbox.instanceId).not.toBe(sandbox.instanceId);
  });
});
