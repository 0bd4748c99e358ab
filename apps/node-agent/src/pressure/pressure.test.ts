import { InstanceId } from '@torpor/contracts';
import { beforeEach, describe, expect, it } from 'vitest';
import { rehearse, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from '../standby/instance.ts';
import { Pressure } from './pressure.ts';

const names = ['iaaaaaaaaaaa', 'ibbbbbbbbbbb', 'iccccccccccc', 'iddddddddddd'];
let clock: StillClock;
let set: Stage;
let room: Rehearsal;
let pressure: Pressure;

beforeEach(() => {
  clock = new StillClock();
  set = stage(clock, {
    latencyMs: { 'image.save': [100, 100], 'image.verify': [200, 200] },
    memoryMib: 2_000,
    instanceMib: 300,
  });
  room = rehearse(set);
  pressure = new Pressure({ parts: room.parts, instances: () => room.standby.all(), storesAtOnce: 1 });
});

/** Watermarks so that so many of those that are here fit in RAM, and no more. */
async function roomFor(count: number, headroomMib = 0): Promise<void> {
  const perOneMib = 2_000 - set.host.memory.freeMib;
  const memoryFreeMib = 2_000 - (perOneMib / set.host.sandboxes.size) * (count + 0.5);
  room.die();
  room = rehearse(set, { watermarks: { memoryFreeMib, diskFreeMib: 256, headroomMib } });
  await room.standby.adopt();
  pressure = new Pressure({ parts: room.parts, instances: () => room.standby.all(), storesAtOnce: 1 });
}

async function started(id: string, more: Parameters<typeof startAsk>[0] = {}): Promise<void> {
  await room.standby.start(startAsk({ id, ...more }));
  await clock.go(1_000);
}

const at = (id: string): Instance => room.standby.at(InstanceId.parse(id), 1);
const states = () => names.map((id) => room.standby.find(InstanceId.parse(id))?.state);

async function relieved(rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    await pressure.relieve();
    await clock.go(2_000);
  }
}

describe('a host that is short of memory', () => {
  it('stores sleepers before their time, those first that were used longest ago, and no more than it must', async () => {
    for (const id of names) await started(id);
    await clock.go(20_000);
    await roomFor(2);
    await relieved(5);
    expect(states()).toEqual(['stored', 'stored', 'paused', 'paused']);
    expect(at('iaaaaaaaaaaa').report().because).toBe('memory');
  });

  it('stores last what its wake budget wants in RAM', async () => {
    for (const id of names) await started(id, { wakeBudget: { kind: 'p99', ms: id === names[0] ? 25 : 10_000 } });
    await clock.go(20_000);
    await roomFor(1);
    await relieved(5);
    expect(states()).toEqual(['paused', 'stored', 'stored', 'stored']);
  });

  it('has what runs unused fall asleep sooner, and touches nobody in use', async () => {
    for (const id of names) await started(id, { idle: { kind: 'after', idleMs: 600_000 } });
    await roomFor(1);
    const stay = await at('iddddddddddd').enter('request');
    await relieved(6);
    expect(states()).toEqual(['stored', 'stored', 'stored', 'running']);
    stay.leave();
  });

  it('does nothing while there is enough', async () => {
    for (const id of names) await started(id);
    await clock.go(20_000);
    await roomFor(4);
    await relieved(3);
    expect(states()).toEqual(['paused', 'paused', 'paused', 'paused']);
  });
});

describe('wakes from disk on a full host', () => {
  it('wait for memory and get it in the order in which they were asked for', async () => {
    for (const id of names) await started(id);
    await clock.go(20_000);
    await roomFor(2);
    await relieved(5);
    for (const id of names.slice(2)) void at(id).wake(); // so that all room is taken
    await clock.go(100);
    const woken: string[] = [];
    const wakes = names.slice(0, 2).map((id) =>
      at(id)
        .wake()
        .then(() => woken.push(id)),
    );
    await clock.go(500);
    expect(woken).toEqual([]);
    await relieved(8);
    await Promise.all(wakes);
    expect(woken).toEqual(['iaaaaaaaaaaa', 'ibbbbbbbbbbb']);
  });

  it('are refused when none comes free, and told when to ask again', async () => {
    for (const id of names) await started(id);
    await clock.go(20_000);
    await roomFor(2);
    await relieved(5);
    const stays = await Promise.all(names.slice(2).map((id) => at(id).enter('request')));
    const refused = at('iaaaaaaaaaaa')
      .wake()
      .catch((error: unknown) => error);
    for (let second = 0; second < 11; second++) {
      await pressure.relieve();
      await clock.go(1_000);
    }
    expect(await refused).toMatchObject({
      code: 'unavailable',
      retryable: true,
      retryAfterS: expect.any(Number),
      message: expect.stringContaining('none came free'),
    });
    expect(states()).toEqual(['stored', 'stored', 'running', 'running']);
    for (const stay of stays) stay.leave();
  });
});
