import assert from 'node:assert/strict';
import { describe, expect, it } from 'vitest';
import { InstanceId } from '@torpor/contracts';
import type { Failpoints } from '../journal/index.ts';
import type { Instance } from '../standby/instance.ts';
import { rehearse, SHAPE, settle, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';

const TARGET = { template: 'base', shape: SHAPE, size: 2 };

/** Dies at the nth failpoint that it comes by. */
function dyingAt(n: number, room: () => Rehearsal | undefined): Failpoints & { readonly diedAt: string | undefined } {
  let passed = 0;
  let diedAt: string | undefined;
  return {
    get diedAt() {
      return diedAt;
    },
    hit(name) {
      passed++;
      if (passed !== n) return undefined;
      diedAt = name;
      room()?.die();
      return new Promise(() => {});
    },
  };
}

interface Story {
  /** Told before anything may be killed. */
  readonly before?: (room: Rehearsal, clock: StillClock) => Promise<void>;
  /** What is being done when the node-agent is killed; answers what was answered to the caller. */
  readonly act: (room: Rehearsal, clock: StillClock) => Promise<unknown>;
}

async function fill(room: Rehearsal, clock: StillClock): Promise<void> {
  void room.pools.keepFull();
  await clock.go(1_000);
}

const start = (room: Rehearsal) => room.standby.start(startAsk());

const theOne = (room: Rehearsal) => room.standby.at(startAsk().instanceId, 1);

const stories: Record<string, Story> = {
  'a store': {
    before: async (room) => void (await start(room)),
    act: (room) => theOne(room).store('asked'),
  },
  'a wake from an image': {
    before: async (room) => {
      await start(room);
      await theOne(room).store('asked');
    },
    act: (room) => theOne(room).wake(),
  },
  'a snapshot': {
    before: async (room) => void (await start(room)),
    act: (room) => theOne(room).snapshots.make({ because: 'asked' }),
  },
  'the delete of a snapshot': {
    before: async (room) => {
      await start(room);
      await theOne(room).snapshots.make({ because: 'asked', name: 'one' });
    },
    act: (room) => theOne(room).snapshots.remove('one'),
  },
  'a restore of a snapshot': {
    before: async (room) => {
      await start(room);
      await theOne(room).snapshots.make({ because: 'asked', name: 'one' });
    },
    act: (room) => theOne(room).snapshots.rewind('one'),
  },
  'a fork': {
    before: async (room) => {
      await start(room);
      await theOne(room).snapshots.make({ because: 'asked', name: 'one' });
    },
    act: (room) => {
      const from = { instanceId: startAsk().instanceId, snapshot: 'one' };
      return room.standby.start({ ...startAsk({ id: 'ibbbbbbbbbbb', generation: 2 }), from });
    },
  },
  'a cold create': { act: start },
  'a create from the pool': { before: fill, act: start },
  'a refill of a pool': { act: fill },
  'a delete': {
    before: async (room) => void (await start(room)),
    act: (room) => room.standby.stop(startAsk().instanceId, startAsk().generation, 'asked'),
  },
};

/** Tells the story with a kill at the nth failpoint; undefined when it ended before. */
async function tell(
  story: Story,
  n: number,
): Promise<{ set: Stage; clock: StillClock; diedAt: string; answered: boolean } | undefined> {
  const clock = new StillClock();
  const set = stage(clock);
  if (story.before) {
    const calm = rehearse(set, { targets: [TARGET] });
    await story.before(calm, clock);
    calm.die();
  }
  let room: Rehearsal | undefined;
  const failpoints = dyingAt(n, () => room);
  room = rehearse(set, { targets: [TARGET], failpoints });
  await room.standby.adopt();
  let answered = false;
  void story.act(room, clock).then(() => (answered = true));
  await clock.go(100);
  const { diedAt } = failpoints;
  if (diedAt === undefined) return undefined;
  set.store.crash();
  return { set, clock, diedAt, answered };
}

async function assertWhole(instance: Instance, diedAt: string): Promise<void> {
  const stay = await instance.enter('request');
  const { claimed, generation } = await stay.guest.json<{ claimed: boolean; generation: number }>('GET', '/v1/health');
  assert.deepEqual([claimed, generation], [true, 1], diedAt);
  stay.leave();
}

async function journaled({ store }: Stage): Promise<string[]> {
  return (await store.readAll()).map(({ hostId }) => hostId).sort();
}

const WITHOUT_LOSS = new Set(['a store', 'a wake from an image', 'a snapshot', 'a restore of a snapshot', 'a fork']);

describe.each(Object.entries(stories))('killed during %s', (name, story) => {
  it('at any step: the next node-agent finds all or nothing, and the host equals the journal', async () => {
    const places: string[] = [];
    for (let n = 1; n < 100; n++) {
      const told = await tell(story, n);
      if (!told) break;
      const { set, clock, diedAt, answered } = told;
      places.push(diedAt);
      const next = rehearse(set, { targets: [TARGET] });
      await next.standby.adopt();
      await clock.go(10_000);

      const onHost = new Set([...set.host.disks.keys(), ...set.host.nets.keys(), ...set.host.sandboxes.keys()]);
      assert.deepEqual([...onHost].sort(), await journaled(set), diedAt);
      const instance = next.standby.find(startAsk().instanceId);
      if (answered && name.includes('create')) assert.equal(instance?.state, 'running', diedAt);
      if (answered && name === 'a delete') assert.equal(instance, undefined, diedAt);
      if (instance) await assertWhole(instance, diedAt);
      // Whatever was left can be started, ended and forgotten as if nothing had been.
      if (!instance) await next.standby.start(startAsk());
      if (WITHOUT_LOSS.has(name)) assert.equal(theOne(next).reason, undefined, diedAt);
      await next.standby.stop(startAsk().instanceId, startAsk().generation, 'asked');
      await clock.go(1_000);
      assert.equal(next.standby.find(startAsk().instanceId), undefined, diedAt);
      assert.deepEqual([...set.host.images.keys()], [], diedAt);
      next.die();
    }
    expect(new Set(places).size).toBeGreaterThan(3);
  });
});

describe('killed when a wake from an image was done and not yet written down', () => {
  it('is begun anew, checked and signed for, and the one after next knows its process', async () => {
    const clock = new StillClock();
    const set = stage(clock);
    const first = rehearse(set);
    await start(first);
    await theOne(first).store('asked');
    const failpoints: Failpoints = {
      hit(name) {
        if (name !== 'journal:restore:done:before-fsync') return undefined;
        second.die();
        return new Promise(() => {});
      },
    };
    first.die();
    const second = rehearse(set, { failpoints });
    await second.standby.adopt();
    void theOne(second).wake();
    await clock.go(100);
    for (let life = 0; life < 2; life++) {
      const next = await restarted(set);
      await clock.go(100);
      const { state, reason, hostId } = theOne(next).report();
      expect([state, reason]).toEqual(['running', undefined]);
      const receipts = await next.parts.receipts.of(hostId ?? startAsk().instanceId);
      expect(receipts.map(({ signed }) => signed)).toEqual([expect.stringContaining('"verdict":"')]);
      next.die();
    }
    expect(set.host.calls.filter(({ verb }) => verb === 'sandbox.restore')).toHaveLength(2);
  });
});

async function restarted(set: Stage): Promise<Rehearsal> {
  const next = rehearse(set, { targets: [TARGET] });
  await next.standby.adopt();
  await settle();
  return next;
}

describe('after a restart', () => {
  it('sleepers sleep on and runners run on, with everything inside as it was', async () => {
    const clock = new StillClock();
    const set = stage(clock);
    const first = rehearse(set);
    await first.standby.start(startAsk());
    await first.standby.start(startAsk({ id: 'ibbbbbbbbbbb', idle: { kind: 'never' } }));
    const instance = first.standby.at(startAsk().instanceId, 1);
    const stay = await instance.enter('request');
    const { pid } = await stay.guest.json<{ pid: number }>('POST', '/v1/processes', {
      shell: 'count 50',
      name: 'counter',
    });
    stay.leave();
    await clock.go(15_100);
    const { lastUsedAtMs } = instance.report();
    first.die();
    await clock.go(60_000);

    const next = await restarted(set);
    const found = next.standby.at(startAsk().instanceId, 1);
    expect(found.state).toBe('paused');
    expect(found.report().lastUsedAtMs).toBe(lastUsedAtMs);
    const again = await found.enter('request');
    expect(await again.guest.json('GET', '/v1/processes/counter')).toMatchObject({ pid, status: 'running' });
    const runner = next.standby.at(InstanceId.parse('ibbbbbbbbbbb'), 1);
    await clock.go(60_000);
    expect(runner.state).toBe('running'); // its policy was found again too
  });

  it('what died meanwhile is failed, says why, and keeps its files until it is deleted', async () => {
    const set = stage(new StillClock());
    const first = rehearse(set);
    await first.standby.start(startAsk());
    first.die();
    for (const hostId of set.host.sandboxes.keys()) set.host.kill(hostId, { cause: 'exited', exitCode: 1 });
    const next = await restarted(set);
    const found = next.standby.at(startAsk().instanceId, 1);
    expect([found.state, found.reason]).toEqual(['failed', expect.stringContaining('ended by itself')]);
    expect(set.host.disks.size).toBe(1);
    await next.standby.stop(startAsk().instanceId, startAsk().generation, 'asked');
    await settle();
    expect([set.host.disks.size, await journaled(set)]).toEqual([0, []]);
  });

  it('pooled instances are taken over and claimed', async () => {
    const clock = new StillClock();
    const set = stage(clock);
    const first = rehearse(set, { targets: [TARGET] });
    await fill(first, clock);
    first.die();
    const next = await restarted(set);
    expect(next.pools.depths()[0]?.ready).toBe(2);
    expect(await next.standby.start(startAsk())).toMatchObject({ from: 'pool' });
    expect(set.host.sandboxes.size).toBe(2);
  });

  it('what waits in a pool since before an upgrade gives way to what is made now; a sandbox goes on as it is', async () => {
    const clock = new StillClock();
    const set = stage(clock);
    const first = rehearse(set, { targets: [TARGET] });
    await fill(first, clock);
    await first.standby.start(startAsk());
    const { hostId } = first.standby.at(startAsk().instanceId, 1).body ?? {};
    first.die();
    set.host.build = 'fake-2';
    const next = await restarted(set);
    expect([next.pools.depths()[0]?.ready, [...set.host.sandboxes.keys()]]).toEqual([0, [hostId]]);
    expect(next.standby.at(startAsk().instanceId, 1).state).toBe('running');
    await fill(next, clock);
    next.die();
    expect((await restarted(set)).pools.depths()[0]?.ready).toBe(2);
  });

  it('what no journal knows is destroyed, network and all', async () => {
    const set = stage(new StillClock());
    const first = rehearse(set);
    await first.standby.start(startAsk());
    await first.standby.start(startAsk({ id: 'ibbbbbbbbbbb' }));
    first.die();
    const [lost] = await journaled(set);
    await set.store.remove(InstanceId.parse(lost));
    const next = await restarted(set);
    expect([set.host.sandboxes.size, set.host.nets.size, set.host.disks.size, next.standby.size]).toEqual([1, 1, 1, 1]);
  });

  it('a stray whose destruction was cut short goes at the next start, and so does its journal', async () => {
    const clock = new StillClock();
    const set = stage(clock);
    const first = rehearse(set);
    await first.standby.start(startAsk());
    first.die();
    const [lost] = await journaled(set);
    await set.store.remove(InstanceId.parse(lost));
    let second: Rehearsal | undefined;
    const killed = (name: string) => {
      if (name !== 'journal:destroy:after-fsync') return undefined;
      second?.die();
      return new Promise<void>(() => {});
    };
    second = rehearse(set, { failpoints: { hit: killed } });
    await second.standby.adopt();
    await settle();
    expect([set.host.sandboxes.size, await journaled(set)]).toEqual([1, [lost]]);
    await restarted(set);
    expect([set.host.sandboxes.size, set.host.nets.size, set.host.disks.size]).toEqual([0, 0, 0]);
    expect(await journaled(set)).toEqual([]);
  });

  it.each(['refuses', 'is silent'] as const)(
    'an instance of which the host %s keeps no other back, and is known when the host tells',
    async (how) => {
      const clock = new StillClock();
      const set = stage(clock);
      const first = rehearse(set);
      const ids = ['iaaaaaaaaaaa', 'ibbbbbbbbbbb', 'icccccccccccc'] as const;
      for (const id of ids) await first.standby.start(startAsk({ id, idle: { kind: 'never' } }));
      const [running, asleep, ended] = ids.map((id) => InstanceId.parse(id));
      assert(running && asleep && ended);
      await first.standby.at(asleep, 1).pause();
      const unknown = new Set([...set.host.sandboxes.keys()]);
      first.die();

      const next = rehearse(set, { targets: [TARGET] });
      let isMute = true;
      const { inspect } = next.parts.driver;
      const mute = (hostId: InstanceId) => {
        if (!isMute || !unknown.has(hostId)) return inspect(hostId);
        return how === 'refuses' ? Promise.reject(new Error('busy')) : new Promise<never>(() => {});
      };
      Object.assign(next.parts, { driver: { ...next.parts.driver, inspect: mute } });
      const adopted = next.standby.adopt().then(() => 'adopted');
      await clock.go(5_000);
      expect(await adopted).toBe('adopted');
      expect([next.standby.size, next.standby.at(running, 1).state]).toEqual([3, 'creating']);
      expect(await next.standby.start(startAsk({ id: 'idddddddddddd' }))).toMatchObject({ from: 'cold' });
      // It can be deleted all the same, and those who want one of the others wait.
      await next.standby.stop(ended, startAsk().generation, 'asked');
      const entered = [running, asleep].map((id) => Promise.resolve(next.standby.at(id, 1).enter('request')));
      isMute = false;
      await clock.go(10_000);
      for (const stay of await Promise.all(entered)) stay.leave();
      expect([running, asleep].map((id) => next.standby.at(id, 1).state)).toEqual(['running', 'running']);
      expect([next.standby.size, set.host.sandboxes.size]).toEqual([3, 3]);
    },
  );

  it('what its journal alone decides is not asked of the host', async () => {
    const set = stage(new StillClock());
    const first = rehearse(set);
    await first.standby.start(startAsk());
    const { hostId } = first.standby.at(startAsk().instanceId, 1).body ?? {};
    if (hostId) set.host.kill(hostId);
    await first.standby.at(startAsk().instanceId, 1).check();
    await settle();
    first.die();
    const looks = () => set.host.calls.filter(({ verb }) => verb === 'sandbox.state').length;
    const before = looks();
    const next = await restarted(set);
    expect([next.standby.at(startAsk().instanceId, 1).state, looks() - before]).toEqual(['failed', 0]);
  });

  it('a lease that ends before an instance is known freezes it once it is', async () => {
    const clock = new StillClock();
    const set = stage(clock);
    const first = rehearse(set);
    await first.standby.start(startAsk());
    first.die();
    const next = rehearse(set);
    set.host.failNext('sandbox.state', 'before');
    const adopting = next.standby.adopt();
    await settle();
    next.standby.fence();
    await clock.go(1_000);
    await adopting;
    const [hostId] = set.host.sandboxes.keys();
    expect([next.standby.at(startAsk().instanceId, 1).state, hostId && set.host.facts(hostId).state]).toEqual([
      'paused',
      'frozen',
    ]);
  });

  it('a journal that is damaged stops the start rather than guess', async () => {
    const set = stage(new StillClock());
    await set.store.append(InstanceId.parse('hostaaaaaaaa'), 'not json\n', { durable: true });
    await expect(rehearse(set).standby.adopt()).rejects.toThrow(/journal of hostaaaaaaaa/);
  });
});
