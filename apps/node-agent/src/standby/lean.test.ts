import { Failure } from '@torpor/kernel';
import { beforeEach, describe, expect, it } from 'vitest';
import { rehearse, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from './instance.ts';
import { relieveHost, relieveOnce } from './relief.ts';

const AFTER_MS = 60_000;

let clock: StillClock;
let set: Stage;
let room: Rehearsal;

beforeEach(() => begin({}));

function begin(host: Parameters<typeof stage>[1]): void {
  clock = new StillClock();
  set = stage(clock, { latencyMs: { 'sandbox.lean': [100, 100], 'image.save': [100, 100] }, ...host });
  room = rehearse(set, { leanAfterMs: AFTER_MS, storeAfterMs: 3_600_000 });
}

async function started(id?: string): Promise<Instance> {
  const ask = startAsk(id === undefined ? {} : { id });
  await go(room.standby.start(ask));
  return room.standby.at(ask.instanceId, ask.generation);
}

/** Lets time pass until it is answered. */
async function go<T>(work: Promise<T>): Promise<T> {
  const watched = { over: false };
  const over = () => void (watched.over = true);
  work.then(over, over);
  while (!watched.over) await clock.go(10);
  return await work;
}

const swapped = () => set.host.swap.usedMib;
const leans = () => set.host.calls.filter(({ verb }) => verb === 'sandbox.lean').length;

describe('a sandbox that sleeps for a while', () => {
  it('is paged out by itself, and woken as it was by the next request', async () => {
    const instance = await started();
    await clock.go(15_000);
    expect([instance.state, swapped()]).toEqual(['paused', 0]);
    await clock.go(AFTER_MS + 200);
    expect([instance.state, instance.report().tier]).toEqual(['lean', 'lean']);
    expect(swapped()).toBeGreaterThan(0);
    const stay = await go(Promise.resolve(instance.enter('request')));
    expect([stay.found, swapped(), instance.report().wakes?.lean?.measured]).toEqual(['lean', 0, 1]);
    expect(instance.report().wakes?.paused).toBeUndefined();
    stay.leave();
    expect(room.changes.join()).toContain('paused → lean,lean → waking,waking → running');
  });

  it('goes on to the disk after its time, counted from when it fell asleep', async () => {
    const instance = await started();
    await clock.go(15_000 + AFTER_MS + 200);
    expect(instance.state).toBe('lean');
    await clock.go(3_600_000 - AFTER_MS - 2_000);
    expect(instance.state).toBe('lean');
    await clock.go(5_000);
    expect([instance.state, instance.report().tier]).toEqual(['stored', 'stored']);
    const stay = await go(Promise.resolve(instance.enter('request')));
    expect(stay.found).toBe('stored');
    stay.leave();
  });

  it('is not told as paged out before it is', async () => {
    const instance = await started();
    await go(instance.pause());
    const leaning = instance.lean('asked');
    await clock.go(50);
    expect([instance.state, instance.report().tier]).toEqual(['paused', 'paused']);
    await go(leaning);
    expect(instance.state).toBe('lean');
  });
});

describe('whoever comes while it is paged out', () => {
  it('is let in, and the page-out tells of nothing afterwards', async () => {
    const instance = await started();
    await go(instance.pause());
    const leaning = instance.lean('asked');
    await clock.go(50);
    const stay = await go(Promise.resolve(instance.enter('request')));
    expect([stay.found, instance.state]).toEqual(['paused', 'running']);
    stay.leave();
    await leaning;
    expect([instance.state, swapped()]).toEqual(['running', 0]);
  });

  it('may want it stored, which is not forgotten', async () => {
    const instance = await started();
    await go(instance.pause());
    void instance.lean('asked');
    await clock.go(50);
    await go(instance.store('asked'));
    expect(instance.state).toBe('stored');
  });
});

describe('a page-out that cannot be', () => {
  it.each([
    ['without swap', { swapMib: 0 }, /this host has no swap/],
    ['with too little of it', { swapMib: 5 }, /swap of this host is full, or nearly: 0 of 5 MiB/],
    ['with less of it than it turns out to need', { swapMib: 20, instanceMib: 100 }, /swap is full/],
  ])('%s leaves it paused and whole, and says why', async (_, host, why) => {
    begin(host);
    const instance = await started();
    const reason = await go(instance.lean('asked'));
    expect([instance.state, reason]).toEqual(['paused', expect.stringMatching(why)]);
    const stay = await go(Promise.resolve(instance.enter('request')));
    expect(await stay.guest.json('GET', '/v1/health')).toMatchObject({ claimed: true });
    stay.leave();
  });

  it('is tried again later, each time after a longer while', async () => {
    const instance = await started();
    set.host.failNext('sandbox.lean', 'before', new Failure('internal', 'the disk is in trouble'));
    set.host.failNext('sandbox.lean', 'before', new Failure('internal', 'the disk is in trouble'));
    await go(instance.pause());
    await clock.go(AFTER_MS + 500);
    expect([instance.state, leans()]).toEqual(['paused', 0]);
    await clock.go(AFTER_MS + 500);
    expect(instance.state).toBe('paused');
    await clock.go(AFTER_MS + 500);
    expect(instance.state).toBe('paused');
    await clock.go(AFTER_MS + 500);
    expect(instance.state).toBe('lean');
  });

  it('of one that died meanwhile tells of the death', async () => {
    const instance = await started();
    await go(instance.pause());
    const leaning = instance.lean('asked');
    await clock.go(50);
    for (const hostId of set.host.sandboxes.keys()) set.host.kill(hostId);
    await go(leaning);
    expect(instance.state).toBe('failed');
  });
});

it('is found lean again by the next node-agent', async () => {
  const instance = await started();
  await go(instance.lean('asked'));
  room.die();
  room = rehearse(set, { leanAfterMs: AFTER_MS });
  await go(room.standby.adopt());
  const next = room.standby.at(startAsk().instanceId, 1);
  await clock.go(200);
  expect(next.state).toBe('lean');
  const stay = await go(Promise.resolve(next.enter('request')));
  expect(stay.found).toBe('lean');
  stay.leave();
});

describe('a host that runs short of memory', () => {
  it('has sleepers paged out before their time, the longest unused first', async () => {
    begin({ memoryMib: 16_384, swapMib: 8_192 });
    const [old, young] = [await started('iold00000000'), await started('iyoung000000')];
    await go(old.pause());
    await clock.go(50_000);
    await go(young.wake());
    await go(young.pause());
    const lookAgain = () => go(relieveOnce(room.parts, () => room.standby.all()));
    set.host.memoryTakenMib = 16_384 * 0.9;
    expect([await lookAgain(), old.state, young.state]).toEqual(['relieved', 'lean', 'paused']);
    expect([await lookAgain(), old.state, young.state]).toEqual(['relieved', 'lean', 'lean']);
    expect(await lookAgain(), 'which is enough').toBe('idle');
  });

  it('waits only so long for one of them, and goes on with the next', async () => {
    begin({ memoryMib: 16_384, swapMib: 8_192, latencyMs: { 'sandbox.lean': [3_600_000, 3_600_000] } });
    const [old, young] = [await started('iold00000000'), await started('iyoung000000')];
    await go(old.pause());
    await clock.go(5_000);
    await go(young.pause());
    set.host.memoryTakenMib = 16_384 * 0.95;
    const relieving = relieveHost(room.parts, () => room.standby.all());
    const atIt = () => [old, young].filter(({ depth }) => depth.slumber === undefined);
    await clock.go(10_000);
    expect(atIt()).toEqual([old]);
    await clock.go(70_000);
    expect(atIt()).toEqual([old, young]);
    room.die();
    await relieving;
  });

  it('leaves them alone when it has enough', async () => {
    const instance = await started();
    await go(instance.pause());
    expect(await relieveOnce(room.parts, () => room.standby.all())).toBe('idle');
    set.host.memoryPressure = 0.5;
    expect(await go(relieveOnce(room.parts, () => room.standby.all()))).toBe('relieved');
    expect([instance.state, instance.report().because]).toEqual(['lean', 'memory is short']);
  });
});
