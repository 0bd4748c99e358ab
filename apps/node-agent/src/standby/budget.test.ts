import { beforeEach, describe, expect, it } from 'vitest';
import type { WakeBudget } from '@torpor/contracts';
import { rehearse, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from './instance.ts';

const IDLE_MS = 1_000;
let clock: StillClock;
let set: Stage;
let room: Rehearsal;

beforeEach(() => {
  clock = new StillClock();
  set = stage(clock, {
    swapMib: 0,
    latencyMs: { 'sandbox.resume': [2, 2], 'image.save': [100, 100], 'image.verify': [400, 400] },
  });
  room = rehearse(set);
});

async function started(wakeBudget?: WakeBudget): Promise<Instance> {
  const ask = startAsk({ idle: { kind: 'after', idleMs: IDLE_MS }, ...(wakeBudget ? { wakeBudget } : {}) });
  await room.standby.start(ask);
  return room.standby.at(ask.instanceId, ask.generation);
}

/** Asleep for so long, and then used. */
async function sleepAndUse(instance: Instance, sleptMs: number): Promise<void> {
  await clock.go(IDLE_MS + sleptMs);
  const woken = { is: false };
  const use = instance.wake().then(() => (woken.is = true));
  while (!woken.is) await clock.go(10);
  await use;
}

describe('a sandbox with a wake budget', () => {
  it('goes to the disk by itself where the cheapest is wanted and it sleeps for long', async () => {
    const instance = await started({ kind: 'cheapest' });
    for (let turn = 0; turn < 5; turn++) await sleepAndUse(instance, 600_000);
    const report = instance.report();
    expect([report.wakeBudget, report.wakes?.stored?.measured]).toEqual([{ kind: 'cheapest' }, expect.any(Number)]);
    expect(instance.depth.outlook().tiers.map(({ tier }) => tier)).toEqual(['paused', 'stored']);
  });

  it('stays in RAM where no wake from disk keeps its budget, however long the node would wait', async () => {
    room = rehearse(set, { storeAfterMs: 60_000 });
    const instance = await started({ kind: 'p99', ms: 25 });
    for (let turn = 0; turn < 3; turn++) await sleepAndUse(instance, 300_000);
    expect(instance.report().wakes).toEqual({ paused: expect.objectContaining({ measured: 3 }) });
  });

  it('counts the wakes that took longer, and forgets them with the budget', async () => {
    const instance = await started({ kind: 'p99', ms: 1 });
    await sleepAndUse(instance, 5_000);
    await sleepAndUse(instance, 5_000);
    expect(instance.depth.outlook().budget).toMatchObject({ over: expect.closeTo(2, 1), isPromised: false });
    await instance.setPolicy({ idle: { kind: 'never' }, wakeBudget: { kind: 'p99', ms: 100 } });
    expect(instance.depth.outlook().budget).toMatchObject({ wakes: 0, over: 0, isPromised: true });
  });

  it('keeps what it has learnt, and its budget, over a restart of the node-agent', async () => {
    const instance = await started({ kind: 'p99', ms: 100 });
    for (let turn = 0; turn < 3; turn++) await sleepAndUse(instance, 5_000);
    await clock.go(5_000);
    const before = instance.book.note();
    room.die();
    room = rehearse(set);
    await room.standby.adopt();
    const reborn = room.standby.at(startAsk().instanceId, 1);
    expect(reborn.book.note()).toEqual(before);
    expect(reborn.report().wakeBudget).toEqual({ kind: 'p99', ms: 100 });
  });

  it('is stored at once when its budget allows it from now on', async () => {
    const instance = await started({ kind: 'p99', ms: 25 });
    for (let turn = 0; turn < 8; turn++) await sleepAndUse(instance, 3_600_000 / 4);
    await clock.go(IDLE_MS + 600_000);
    expect(instance.state).toBe('paused');
    await instance.setPolicy({ idle: { kind: 'never' }, wakeBudget: { kind: 'cheapest' } });
    await clock.go(2_000);
    expect(instance.state).toBe('stored');
  });
});

it('without one goes by the time of its node, and says what sleeping costs', async () => {
  room = rehearse(set, { storeAfterMs: 60_000 });
  const instance = await started();
  await clock.go(IDLE_MS + 59_000);
  expect(instance.state).toBe('paused');
  const { tiers, budget } = instance.depth.outlook();
  expect(budget).toBeUndefined();
  expect(tiers.map(({ tier, afterMs }) => [tier, afterMs])).toEqual([
    ['paused', 0],
    ['stored', 60_000],
  ]);
  const [paused, stored] = tiers;
  expect(paused?.costPerHour).toBeGreaterThan(stored?.costPerHour ?? Infinity);
});
