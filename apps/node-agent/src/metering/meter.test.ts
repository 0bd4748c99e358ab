import { MemoryBus } from '@torpor/bus';
import { bookUsage, NodeId, type UsageInterval } from '@torpor/contracts';
import { describe, expect, it } from 'vitest';
import { memoryNote } from '../note.ts';
import { rehearse, settle, stage, startAsk, StillClock, type Rehearsal } from '../rehearsal.ts';
import { closeInterval, firstPoint } from './intervals.ts';
import { Meter } from './meter.ts';

const reading = (cpuMs: number, memoryMib: number, txBytes = 0) => ({
  cpuUsageNs: cpuMs * 1e6,
  memoryMib,
  txBytes,
  rxBytes: 0,
});

describe('an interval', () => {
  it('says what was used between its ends, and the next begins where it ended', () => {
    const point = firstPoint(1_000, 'running', reading(5, 100, 10));
    const { interval, next } = closeInterval(point, { atMs: 3_000, tier: 'paused', reading: reading(25, 200, 70) });
    expect(interval).toEqual({
      sequence: 0,
      fromMs: 1_000,
      toMs: 3_000,
      tier: 'running',
      cpuMs: 20,
      memoryMibMs: 300_000,
      egressBytes: 60,
      diskMib: 0,
    });
    expect(next).toMatchObject({ sequence: 1, fromMs: 3_000, tier: 'paused', cpuMs: 25 });
  });

  it('never runs backwards: not with the clock, and not with counters that began anew', () => {
    const point = firstPoint(5_000, 'running', reading(50, 100));
    const { interval } = closeInterval(point, { atMs: 4_000, tier: 'running', reading: reading(7, 100) });
    expect([interval.fromMs, interval.toMs, interval.cpuMs]).toEqual([5_000, 5_000, 7]);
  });
});

async function scene() {
  const clock = new StillClock();
  const set = stage(clock);
  const bus = new MemoryBus({ clock });
  const booked: UsageInterval[] = [];
  let answers = true;
  await bus.as('scheduler').serve(bookUsage, async ({ intervals }) => {
    booked.push(...intervals);
    if (!answers) throw new Error('the database is away');
    return { booked: intervals.length };
  });
  const note = memoryNote();
  const open = async (room: Rehearsal) => {
    const meter = new Meter({
      parts: room.parts,
      wire: bus.as('node'),
      nodeId: NodeId.parse('n1'),
      note,
      imageBytes: (id) => room.standby.find(id)?.imageBytes ?? 0,
    });
    room.onChange = (instance) => meter.changed(instance);
    await room.standby.adopt();
    await meter.recall(room.standby.all());
    void meter.run();
    return meter;
  };
  return { clock, set, booked, open, fail: (off: boolean) => (answers = !off) };
}

describe('the meter', () => {
  it('closes at each fall asleep and wake, and each minute, without gaps', async () => {
    const { clock, set, booked, open } = await scene();
    const room = rehearse(set);
    await open(room);
    await room.standby.start(startAsk());
    await clock.go(60_000);
    for (const disk of set.host.disks.values()) disk.usedMib = 7;
    const stay = await room.standby.at(startAsk().instanceId, 1).enter('request');
    await clock.go(130_000);
    stay.leave();
    await clock.go(10_000);
    expect(booked.map(({ tier }) => tier)).toEqual(['running', 'paused', 'paused', 'running', 'running']);
    expect(booked.map(({ sequence }) => sequence)).toEqual([0, 1, 2, 3, 4]);
    expect(booked.map(({ diskMib }) => diskMib)).toEqual([0, 0, 0, 7, 7]);
    for (let at = 1; at < booked.length; at++) expect(booked[at]?.fromMs).toBe(booked[at - 1]?.toMs);
    expect(booked.filter(({ tier }) => tier === 'paused').every(({ cpuMs }) => cpuMs === 0)).toBe(true);
  });

  it('counts what is stored as disk alone, images and all, and says how the sleep ended', async () => {
    const { clock, set, booked, open } = await scene();
    const room = rehearse(set, { storeAfterMs: 10_000 });
    await open(room);
    await room.standby.start(startAsk());
    const instance = room.standby.at(startAsk().instanceId, 1);
    await clock.go(100_000);
    for (const disk of set.host.disks.values()) disk.usedMib = 7;
    await clock.go(60_000);
    const wake = async () => {
      const stay = await instance.enter('request');
      stay.leave();
    };
    await wake();
    await clock.go(30_000);
    set.host.damage([...set.host.images.keys()].at(-1) ?? '');
    await wake();
    await clock.go(10_000);
    const stored = booked.filter(({ tier }) => tier === 'stored');
    expect(stored.every(({ cpuMs, memoryMibMs, egressBytes }) => cpuMs + memoryMibMs + egressBytes === 0)).toBe(true);
    expect(stored.map(({ diskMib }) => diskMib)).toContain(8);
    expect(booked.flatMap(({ tier, wake }) => (wake ? [`${tier} ${wake}`] : []))).toEqual([
      'stored whole',
      'stored lost',
    ]);
    const paused = booked.find(({ tier }) => tier === 'paused');
    expect(paused?.memoryMibMs).toBeGreaterThan(29 * 9_000); // to its last moment
    for (let at = 1; at < booked.length; at++) expect(booked[at]?.fromMs).toBe(booked[at - 1]?.toMs);
  });

  it('after a crash goes on where it was: the same key never means two stretches', async () => {
    const { clock, set, booked, open } = await scene();
    const first = rehearse(set);
    await open(first);
    await first.standby.start(startAsk({ idle: { kind: 'never' } }));
    await clock.go(63_000);
    first.die();
    await clock.go(30_000);
    const next = rehearse(set);
    await open(next);
    await settle();
    await clock.go(120_000);
    const keys = new Map(booked.map((interval) => [interval.sequence, interval]));
    const distinct = [...keys.values()].sort((a, b) => a.sequence - b.sequence);
    for (let at = 1; at < distinct.length; at++) expect(distinct[at]?.fromMs).toBe(distinct[at - 1]?.toMs);
    for (const interval of booked) expect(keys.get(interval.sequence)).toEqual(interval);
  });

  it('keeps what nobody books, and books it later', async () => {
    const { clock, set, booked, open, fail } = await scene();
    fail(true);
    const room = rehearse(set);
    await open(room);
    await room.standby.start(startAsk());
    await clock.go(40_000);
    room.die();
    booked.length = 0;
    fail(false);
    await open(rehearse(set));
    await clock.go(10_000);
    expect(booked[0]).toMatchObject({ sequence: 0, tier: 'running' });
  });
});
