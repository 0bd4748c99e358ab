import { beforeEach, describe, expect, it } from 'vitest';
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
