import { MemoryBus } from '@torpor/bus';
import { bookUsage, NodeId, type UsageInterval } from '@torpor/contracts';
import { describe, expect, it } from 'vitest';
import { memoryNote, type Note } from '../note.ts';
import { rehearse, settle, stage, startAsk, StillClock, type Rehearsal } from '../rehearsal.ts';
import { closeInterval, firstPoint } from './intervals.ts';
import { Meter } from './meter.ts';

const reading = (cpuMs: number, memoryMib: number, txBytes = 0) => ({
  cpuUsageNs: cpuMs * 1e6,
  memoryMib,
  swapMib: 0,
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

  it('counts the RAM of one that was paged out until it was, and what is left of it from then on', () => {
    const point = firstPoint(1_000, 'paused', reading(5, 300));
    const { interval, next } = closeInterval(point, { atMs: 3_000, tier: 'lean', reading: reading(5, 20) });
    expect(interval).toMatchObject({ tier: 'paused', memoryMibMs: 600_000 });
    const minute = closeInterval(next, { atMs: 5_000, tier: 'lean', reading: reading(5, 20) });
    expect(minute.interval).toMatchObject({ tier: 'lean', memoryMibMs: 40_000, cpuMs: 0 });
  });

  it('never runs backwards: not with the clock, and not with counters that began anew', () => {
    const point = firstPoint(5_000, 'running', reading(50, 100));
    const { interval } = closeInterval(point, { atMs: 4_000, tier: 'running', reading: reading(7, 100) });
    expect([interval.fromMs, interval.toMs, interval.cpuMs]).toEqual([5_000, 5_000, 7]);
  });
});

const WEEK_MS = 7 * 24 * 3_600_000;

async function scene(options?: Parameters<typeof stage>[1]) {
  const clock = new StillClock();
  const set = stage(clock, options);
  const bus = new MemoryBus({ clock });
  const booked: UsageInterval[] = [];
  let answers = true;
  await bus.as('scheduler').serve(bookUsage, async ({ intervals }) => {
    booked.push(...intervals);
    if (!answers) throw new Error('the database is away');
    return { booked: intervals.length };
  });
  const kept = memoryNote();
  const disk = { writeMs: 0 };
  const note: Note = {
    read: kept.read,
    async write(text) {
      if (disk.writeMs > 0) await clock.after(disk.writeMs);
      await kept.write(text);
    },
  };
  const open = async (room: Rehearsal) => {
    const meter = new Meter({
      parts: room.parts,
      wire: bus.as('node'),
      nodeId: NodeId.parse('n1'),
      note,
      imageBytes: (id) => room.standby.find(id)?.imageBytes ?? 0,
    });
    room.onChange = (instance) => meter.changed(instance);
    await meter.recall();
    await room.standby.adopt();
    meter.takenOver(room.standby.all());
    void meter.run();
    return meter;
  };
  return { clock, set, booked, open, kept, disk, fail: (off: boolean) => (answers = !off) };
}

/** How long was booked, ms by tier. */
function spans(booked: readonly UsageInterval[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { tier, fromMs, toMs } of booked) sums[tier] = (sums[tier] ?? 0) + toMs - fromMs;
  return sums;
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

  it('follows an instance that wakes while the host is still asked what it had used when it fell asleep', async () => {
    const { clock, set, booked, open } = await scene({ latencyMs: { 'sandbox.stats': [50, 50] } });
    const room = rehearse(set);
    await open(room);
    await room.standby.start(startAsk());
    await clock.go(15_010);
    expect(room.changes.at(-1)).toBe('pausing → paused');
    const stay = await room.standby.at(startAsk().instanceId, 1).enter('request');
    await clock.go(60_000);
    stay.leave();
    expect(booked.map(({ tier }) => tier)).toEqual(['running', 'paused', 'running']);
    expect(spans(booked)['paused']).toBe(10);
  });

  it('waits, before the node goes down, for what the host has to say of the last that fell asleep', async () => {
    const { clock, set, booked, open } = await scene({ latencyMs: { 'sandbox.stats': [50, 50] } });
    const room = rehearse(set);
    const meter = await open(room);
    await room.standby.start(startAsk());
    await clock.go(3_000);
    await room.standby.putAllToSleep();
    const closed = meter.close();
    await clock.go(50);
    await closed;
    room.die();
    await clock.go(WEEK_MS);
    await open(rehearse(set));
    await clock.go(70_000);
    expect(spans(booked)['running']).toBe(3_000);
    expect(spans(booked)['paused']).toBeGreaterThan(WEEK_MS);
  });

  it('books no time as work that was slept, when a crash kept the sleep from being written down', async () => {
    const { clock, set, booked, open } = await scene();
    const room = rehearse(set);
    await open(room);
    await clock.go(1_000);
    await room.standby.start(startAsk());
    await clock.go(15_100);
    expect(room.changes.at(-1)).toBe('pausing → paused');
    room.die();
    await clock.go(WEEK_MS);
    await open(rehearse(set));
    await clock.go(70_000);
    expect(spans(booked)['running'] ?? 0).toBeLessThanOrEqual(15_000);
    expect(spans(booked)['paused']).toBeGreaterThan(WEEK_MS);
  });

  it.each(['running', 'asleep'])(
    'books nothing of the time since the node went down to one that died meanwhile, %s',
    async (how) => {
      const { clock, set, booked, open } = await scene();
      const room = rehearse(set);
      await open(room);
      await room.standby.start(startAsk(how === 'running' ? { idle: { kind: 'never' } } : {}));
      await clock.go(130_000);
      const offAtMs = clock.nowMs();
      room.die();
      for (const hostId of set.host.sandboxes.keys()) set.host.kill(hostId, { cause: 'exited', exitCode: 1 });
      await clock.go(WEEK_MS);
      const next = rehearse(set);
      await open(next);
      await clock.go(130_000);
      expect(next.changes).toEqual(['creating → failed']);
      expect(booked.every(({ toMs }) => toMs <= offAtMs)).toBe(true);
      expect(booked.length).toBeGreaterThan(1);
    },
  );

  it('books the time that the host was off as disk alone to one that went down with it, and its wake as one that lost something', async () => {
    const { clock, set, booked, open } = await scene();
    const room = rehearse(set);
    await open(room);
    await room.standby.start(startAsk({ idle: { kind: 'never' } }));
    await clock.go(130_000);
    room.die();
    set.host.reboot();
    await clock.go(WEEK_MS);
    const next = rehearse(set);
    await open(next);
    const waking = Promise.resolve(next.standby.at(startAsk().instanceId, 1).enter('request'));
    await clock.go(70_000);
    (await waking).leave();
    const stored = booked.filter(({ tier }) => tier === 'stored');
    expect(stored.map(({ wake, cpuMs, memoryMibMs }) => [wake, cpuMs, memoryMibMs])).toEqual([['lost', 0, 0]]);
    expect(spans(booked)['stored']).toBeGreaterThanOrEqual(WEEK_MS);
    expect(spans(booked)['running']).toBeLessThanOrEqual(200_000);
  });

  it('books nothing that a crash would close again otherwise: what came up while the disk was busy waits for it', async () => {
    const { clock, set, booked, open, kept, disk } = await scene();
    disk.writeMs = 50;
    const room = rehearse(set);
    await open(room);
    await room.standby.start(startAsk());
    await clock.go(5_010);
    await room.standby.putAllToSleep();
    await clock.go(60); // the first write has ended, the second has not
    expect([booked.length, JSON.parse((await kept.read()) ?? '').waiting.length]).toEqual([0, 0]);
    await clock.go(50);
    expect(booked.map(({ tier }) => tier)).toEqual(['running']);
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
