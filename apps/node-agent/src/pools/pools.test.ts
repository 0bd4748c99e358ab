import { beforeEach, describe, expect, it } from 'vitest';
import { fakeDriver, type InstanceDriver } from '@torpor/runtime';
import type { StartAsk } from '../standby/standby.ts';
import { rehearse, SHAPE, settle, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';

const TARGET = { template: 'base', shape: SHAPE, size: 3 };
let clock: StillClock;
let set: Stage;
let room: Rehearsal;

beforeEach(() => {
  clock = new StillClock();
  set = stage(clock);
  room = rehearse(set, { targets: [TARGET] });
});

function ready(): number | undefined {
  return room.pools.depths()[0]?.ready;
}

function another(n: number): StartAsk {
  return { ...startAsk({ id: `icold${n}aaaaaa` }), shape: { ...SHAPE, memoryMib: 1024 } };
}

/** Creates take as long as they do on that other host. */
function coldBirthsOf(driver: InstanceDriver, other: Stage): InstanceDriver {
  const { createSteps } = fakeDriver(other.host);
  return new Proxy(driver, {
    get: (target, key) => (key === 'createSteps' ? createSteps : Reflect.get(target, key)),
  });
}

describe('a pool', () => {
  it('fills itself with instances that sleep and have run nothing but the guest', async () => {
    void room.pools.keepFull();
    await clock.go(1_000);
    expect(ready()).toBe(3);
    for (const hostId of set.host.sandboxes.keys()) {
      expect(set.host.facts(hostId).state).toBe('frozen');
      expect(set.host.sandbox(hostId).machine.processes).toEqual([]);
      expect(set.host.sandbox(hostId).machine.identity).toBeUndefined();
    }
  });

  it('gives one away at once and makes another', async () => {
    void room.pools.keepFull();
    await clock.go(1_000);
    const { from } = await room.standby.start(startAsk({ env: { A: '1' } }));
    expect([from, ready()]).toEqual(['pool', 2]);
    const instance = room.standby.at(startAsk().instanceId, 1);
    const stay = await instance.enter('request');
    expect(await stay.guest.json('POST', '/v1/processes', { shell: 'env', waitMs: 100 })).toMatchObject({
      stdout: expect.stringContaining('A=1'),
    });
    await clock.go(5_000);
    expect(ready()).toBe(3);
  });

  it('destroys what was half claimed, and falls back to a cold one', async () => {
    void room.pools.keepFull();
    await clock.go(1_000);
    const pooled = new Set(set.host.sandboxes.keys());
    set.host.failNext('sandbox.resume', 'after');
    const { from } = await room.standby.start(startAsk());
    expect(from).toBe('cold');
    await settle();
    const { hostId } = room.standby.at(startAsk().instanceId, 1).report();
    expect(hostId && pooled.has(hostId)).toBe(false);
    expect([...pooled].filter((id) => set.host.sandboxes.has(id))).toHaveLength(2);
  });

  it('has what was half claimed destroyed once, though nothing can take its place', async () => {
    void room.pools.keepFull();
    await clock.go(1_000);
    set.host.failNext('sandbox.resume', 'after');
    room.admission.admit = () => Promise.reject(new Error('the node is full'));
    await expect(room.standby.start(startAsk())).rejects.toThrow('full');
    await clock.go(5_000);
    const destroyed = set.host.calls.filter(({ verb }) => verb === 'net.delete').map(({ instanceId }) => instanceId);
    expect(destroyed).toHaveLength(1);
    expect([ready(), set.host.nets.size]).toEqual([3, 3]);
  });

  it('is no less ready while others are born cold, and those who wait no more are not born', async () => {
    void room.pools.keepFull();
    await clock.go(1_000);
    const stuck = stage(clock, { latencyMs: { 'sandbox.create': [60_000, 60_000] } });
    Object.assign(room.parts, { driver: coldBirthsOf(room.parts.driver, stuck) });
    const born = 4; // as many as are born side by side
    for (let n = 0; n < born; n++) void room.standby.start(another(n)).catch(() => {});
    await settle();
    expect(await room.standby.start(startAsk())).toMatchObject({ from: 'pool' });

    const gone = new AbortController();
    const unwanted = room.standby.start(another(born), gone.signal).catch((error: unknown) => error);
    await settle();
    const reason = new Error('nobody waits');
    gone.abort(reason);
    expect(await unwanted).toBe(reason);
    // Nothing of it is left that an ask at the same generation would stumble over.
    expect(room.standby.find(another(born).instanceId)).toBeUndefined();
    expect(room.standby.size).toBe(born + 1);
  });

  it('of another shape is not touched', async () => {
    void room.pools.keepFull();
    await clock.go(1_000);
    const { from } = await room.standby.start({ ...startAsk(), shape: { ...SHAPE, memoryMib: 1024 } });
    expect([from, ready()]).toEqual(['cold', 3]);
  });

  it('goes on after a refill that failed, and leaves nothing of it', async () => {
    set.host.failNext('sandbox.start', 'before');
    set.host.failNext('sandbox.pause', 'before');
    void room.pools.keepFull();
    await clock.go(10_000);
    expect([ready(), set.host.sandboxes.size, set.host.disks.size, set.host.nets.size]).toEqual([3, 3, 3, 3]);
  });

  it('is refilled below its share of a core', async () => {
    set = stage(clock, { latencyMs: { 'sandbox.create': [300, 300] } });
    room = rehearse(set, { targets: [{ ...TARGET, size: 8 }] });
    void room.pools.keepFull();
    await clock.go(600);
    expect(ready()).toBe(2); // below a quarter it does not rest
    await clock.go(1_200);
    expect(ready()).toBe(4); // then it works half of the time
  });
});

describe('a full node', () => {
  it('refuses cold creates, saying when to ask again, and still gives from the pool', async () => {
    set = stage(clock, { memoryMib: 256 + 60 }); // a fake instance takes 30
    room = rehearse(set, { targets: [{ ...TARGET, size: 1 }] });
    void room.pools.keepFull();
    await clock.go(1_000);
    await room.admission.look();
    expect(await room.standby.start(startAsk())).toMatchObject({ from: 'pool' });
    expect(await room.standby.start(startAsk({ id: 'ibbbbbbbbbbb' }))).toMatchObject({ from: 'cold' });
    const refused = room.standby.start(startAsk({ id: 'iccccccccccc' }));
    await expect(refused).rejects.toMatchObject({ code: 'no_capacity', retryAfterS: 5 });
    await settle();
    expect(room.standby.size).toBe(2);
  });
});
