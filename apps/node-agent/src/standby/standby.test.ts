import type { InstanceId } from '@torpor/contracts';
import { beforeEach, describe, expect, it } from 'vitest';
import { rehearse, settle, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from './instance.ts';
import { makeRounds } from './rounds.ts';

let clock: StillClock;
let set: Stage;
let room: Rehearsal;

beforeEach(() => {
  clock = new StillClock();
  set = stage(clock);
  room = rehearse(set);
});

async function started(more: Parameters<typeof startAsk>[0] = {}): Promise<Instance> {
  const ask = startAsk(more);
  await room.standby.start(ask);
  return room.standby.at(ask.instanceId, ask.generation);
}

function frozen(instance: Instance): boolean {
  return instance.body !== undefined && set.host.facts(instance.body.hostId).state === 'frozen';
}

async function exec(instance: Instance, shell: string, more: object = {}): Promise<{ stdout: string; id: string }> {
  const stay = await instance.enter('request');
  try {
    return await stay.guest.json('POST', '/v1/processes', { shell, ...more });
  } finally {
    stay.leave();
  }
}

/** Taken at once, so that a rejection during `clock.go` is never unhandled. */
function failureOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

function resumes(): number {
  return set.host.calls.filter(({ verb }) => verb === 'sandbox.resume').length;
}

describe('a sandbox', () => {
  it('is usable once started, with its own environment and that of its template', async () => {
    const instance = await started({ env: { OWN: 'mine' } });
    const { stdout } = await exec(instance, 'env', { waitMs: 1000 });
    expect(stdout).toContain('OWN=mine');
    expect(stdout).toContain('FROM=recipe');
  });

  it('is started once however often it is asked for', async () => {
    const asked = await Promise.all([room.standby.start(startAsk()), room.standby.start(startAsk())]);
    expect(asked.map(({ from }) => from)).toEqual(['cold', 'existing']);
    expect(set.host.sandboxes.size).toBe(1);
  });

  it('gives way to a greater generation of itself, and not to a smaller one', async () => {
    await started({ generation: 2 });
    await expect(room.standby.start(startAsk({ generation: 1 }))).rejects.toMatchObject({ code: 'conflict' });
    await started({ generation: 3 });
    await settle();
    expect(set.host.sandboxes.size).toBe(1);
    expect(() => room.standby.at(startAsk().instanceId, 2)).toThrow(expect.objectContaining({ code: 'misdirected' }));
  });

  it('leaves nothing when its making fails', async () => {
    set.host.failNext('sandbox.start', 'after');
    await expect(room.standby.start(startAsk())).rejects.toThrow(/failpoint/);
    await clock.go(1_000);
    expect([set.host.disks.size, set.host.nets.size, set.host.sandboxes.size, room.standby.size]).toEqual([0, 0, 0, 0]);
    expect(await set.store.readAll()).toEqual([]);
  });

  it('leaves nothing when it is ended, even when the host fails at first', async () => {
    await started();
    set.host.failNext('net.delete', 'before');
    set.host.failNext('disk.delete', 'after');
    expect(await room.standby.stop(startAsk().instanceId, startAsk().generation, 'asked')).toBe(true);
    await clock.go(10_000);
    expect([set.host.disks.size, set.host.nets.size, room.standby.size]).toEqual([0, 0, 0]);
    expect(await set.store.readAll()).toEqual([]);
    expect(await room.standby.stop(startAsk().instanceId, startAsk().generation, 'asked')).toBe(false);
  });
});

describe('sleep', () => {
  it('comes within a second of the policy, and not before', async () => {
    const instance = await started();
    await clock.go(14_900);
    expect(instance.state).toBe('running');
    await clock.go(1_000);
    expect([instance.state, frozen(instance)]).toEqual(['paused', true]);
    expect(instance.report().because).toBe('idle');
  });

  it('is put off by each request', async () => {
    const instance = await started();
    await clock.go(10_000);
    await exec(instance, 'true');
    await clock.go(10_000);
    expect(instance.state).toBe('running');
    await clock.go(5_100);
    expect(instance.state).toBe('paused');
  });

  it.each(['request', 'stream'] as const)('never comes while a %s is open', async (kind) => {
    const instance = await started();
    const stay = await instance.enter(kind);
    await clock.go(100_000);
    expect([instance.state, instance.report().because]).toEqual(['running', kind]);
    stay.leave();
    await clock.go(15_100);
    expect(instance.state).toBe('paused');
  });

  it("comes in spite of a preview's open socket, unless bytes move on it", async () => {
    const instance = await started();
    const stay = await instance.enter('request');
    stay.become('preview');
    await clock.go(10_000);
    stay.moved({ fromClient: 500, fromInstance: 0 });
    await clock.go(10_000);
    expect([instance.state, instance.report().because]).toEqual(['running', 'preview']);
    await clock.go(6_000);
    expect(instance.state).toBe('paused');
    stay.moved({ fromClient: 1, fromInstance: 0 });
    await settle();
    expect(instance.state).toBe('running');
  });

  it('waits for the end of keep-alive processes and counts from there', async () => {
    const instance = await started();
    await exec(instance, 'sleep 60', { keepAlive: true });
    await clock.go(59_000);
    expect([instance.state, instance.report().because]).toEqual(['running', 'keep-alive process']);
    await clock.go(15_500); // it ended at 60 s
    expect(instance.state).toBe('running');
    await clock.go(1_000);
    expect(instance.state).toBe('paused');
  });

  it('never comes by itself under a policy of never, and comes soon when the policy changes', async () => {
    const instance = await started({ idle: { kind: 'never' } });
    await clock.go(3_600_000);
    expect(instance.state).toBe('running');
    await instance.setPolicy({ idle: { kind: 'after', idleMs: 1_000 } });
    await clock.go(1_000);
    expect(instance.state).toBe('paused');
  });

  it('that fails is undone, told and tried again', async () => {
    const instance = await started();
    set.host.failNext('sandbox.pause', 'after');
    await clock.go(15_100);
    expect(frozen(instance)).toBe(false);
    expect(instance.state).toBe('running');
    await clock.go(2_000);
    expect(instance.state).toBe('paused');
  });
});

describe('a wake', () => {
  it('is shared by a hundred requests', async () => {
    const instance = await started();
    await instance.pause();
    const before = resumes();
    const answers = await Promise.all(Array.from({ length: 100 }, () => exec(instance, 'echo hi', { waitMs: 1000 })));
    expect(answers.every(({ stdout }) => stdout === 'hi\n')).toBe(true);
    expect(resumes() - before).toBe(1);
  });

  it('finds processes and files as they were', async () => {
    const instance = await started();
    await exec(instance, 'echo kept > /tmp/file');
    const { id } = await exec(instance, 'count 100');
    await clock.go(16_000);
    expect(frozen(instance)).toBe(true);
    const { stdout } = await exec(instance, 'cat /tmp/file', { waitMs: 1000 });
    expect(stdout).toBe('kept\n');
    const stay = await instance.enter('request');
    expect(await stay.guest.json('GET', `/v1/processes/${id}`)).toMatchObject({ status: 'running' });
    expect([stay.found, stay.heldMs]).toEqual(['running', 0]);
  });

  it('that is asked for while it falls asleep follows right after', async () => {
    const slow = stage(clock, { latencyMs: { 'sandbox.pause': [100, 100], 'sandbox.resume': [3, 3] } });
    set = slow;
    room = rehearse(slow);
    const instance = await started();
    await clock.go(15_050);
    expect(instance.state).toBe('pausing');
    const entered = Promise.resolve(instance.enter('request'));
    await clock.go(100);
    const stay = await entered;
    expect([stay.found, instance.state, frozen(instance)]).toEqual(['pausing', 'running', false]);
  });

  it('is repeated when the driver stumbles', async () => {
    const instance = await started();
    await instance.pause();
    set.host.failNext('sandbox.resume', 'before');
    const entered = Promise.resolve(instance.enter('request'));
    await clock.go(500);
    expect((await entered).found).toBe('paused');
  });

  it('that will not come refuses those who wait, and the next request tries again', async () => {
    const instance = await started();
    await instance.pause();
    for (let i = 0; i < 3; i++) set.host.failNext('sandbox.resume', 'before');
    const entered = Promise.resolve(instance.enter('request'));
    const refused = failureOf(entered);
    await clock.go(2_000);
    expect(await refused).toMatchObject({ code: 'unavailable', retryable: true });
    expect(instance.state).toBe('paused');
    expect((await instance.enter('request')).found).toBe('paused');
  });

  it('says so when the process is gone, and keeps its files', async () => {
    const instance = await started();
    await instance.pause();
    const { hostId } = instance.body ?? {};
    if (hostId) set.host.kill(hostId);
    const entered = Promise.resolve(instance.enter('request'));
    await expect(entered).rejects.toMatchObject({ code: 'gone', message: expect.stringContaining('process is gone') });
    expect([instance.state, set.host.disks.size]).toEqual(['failed', 1]);
    expect(() => instance.enter('request')).toThrow(/failed/);
  });

  it('says how it died, when the host knows', async () => {
    const instance = await started();
    if (instance.body) set.host.kill(instance.body.hostId, { cause: 'pids' });
    await instance.check();
    expect(instance.report()).toMatchObject({ state: 'failed', reason: expect.stringContaining('limit of processes') });
  });

  it('is not held for ever: the error names the timer', async () => {
    const stuck = stage(clock, { latencyMs: { 'sandbox.resume': [60_000, 60_000] } });
    set = stuck;
    room = rehearse(stuck);
    const instance = await started();
    await instance.pause();
    const refused = failureOf(Promise.resolve(instance.enter('request')));
    await clock.go(15_100);
    expect(await refused).toMatchObject({
      code: 'deadline_exceeded',
      message: expect.stringContaining('hold of a request'),
    });
  });

  it('predicts the next one', async () => {
    const slow = stage(clock, { latencyMs: { 'sandbox.resume': [4, 4] } });
    set = slow;
    room = rehearse(slow);
    const instance = await started();
    await instance.pause();
    const entered = Promise.resolve(instance.enter('request'));
    await clock.go(10);
    await entered;
    expect(instance.past.wakes.paused.predictedMs).toBe(4);
  });
});

describe('a guest that is gone while its process lingers', () => {
  it('is noticed after a few refusals, and not after one', async () => {
    const instance = await started({ idle: { kind: 'never' } });
    void makeRounds(room.parts, () => room.standby.all());
    for (const sandbox of set.host.sandboxes.values()) sandbox.started = false; // it is on the host, and nothing listens
    await instance.check('trouble');
    expect([instance.state, instance.isSuspect]).toEqual(['running', true]);
    await clock.go(5_000);
    expect([instance.state, instance.reason]).toEqual(['failed', expect.stringContaining('its guest is gone')]);
  });
});

describe('rounds', () => {
  it('tell of a death though the host says nothing of others', async () => {
    const silent = new Set<string>();
    for (const n of 'bcdefghijk') {
      const instance = await started({ id: `i${n.repeat(11)}`, idle: { kind: 'never' } });
      await instance.enter('stream');
      silent.add(instance.report().hostId ?? '');
    }
    const streamed = await started({ idle: { kind: 'never' } });
    await streamed.enter('stream');
    const { inspect } = room.parts.driver;
    let asked = 0;
    const mute = (hostId: InstanceId) => {
      if (!silent.has(hostId)) return inspect(hostId);
      asked++;
      return new Promise<never>(() => {});
    };
    Object.assign(room.parts, { driver: { ...room.parts.driver, inspect: mute } });
    void makeRounds(room.parts, () => room.standby.all());
    await clock.go(3_000);
    if (streamed.body) set.host.kill(streamed.body.hostId);
    await clock.go(12_000);
    expect([streamed.state, asked > 10 && asked < 40]).toEqual(['failed', true]);
  });
});

describe('the last use', () => {
  it.each(['request', 'stream'] as const)('is now while a %s is open', async (kind) => {
    const instance = await started();
    const stay = await instance.enter(kind);
    await clock.go(3_600_000);
    expect(instance.report().lastUsedAtMs).toBe(clock.nowMs());
    stay.leave();
    const endMs = clock.nowMs();
    await clock.go(100_000);
    expect([instance.state, instance.report().lastUsedAtMs]).toEqual(['paused', endMs]);
  });

  it('is now while a keep-alive process runs, also one that is put to sleep by hand', async () => {
    const instance = await started();
    await exec(instance, 'sleep 7200', { keepAlive: true });
    await clock.go(3_600_000);
    expect(instance.report().lastUsedAtMs).toBe(clock.nowMs());
    await instance.pause();
    const endMs = clock.nowMs();
    await clock.go(100_000);
    expect([instance.state, instance.report().lastUsedAtMs]).toEqual(['paused', endMs]);
  });

  it("is its bytes' while a preview is open", async () => {
    const instance = await started();
    const stay = await instance.enter('request');
    stay.become('preview');
    const endMs = clock.nowMs();
    await clock.go(10_000);
    expect(instance.report().lastUsedAtMs).toBe(endMs);
  });
});

describe('a lost lease', () => {
  it('freezes what runs, ends streams, refuses requests, and is undone by a renewal', async () => {
    const busy = await started();
    const asleep = await started({ id: 'ibbbbbbbbbbb' });
    await asleep.pause();
    const stay = await busy.enter('stream');
    const ends: string[] = [];
    stay.onEnd = ({ code }) => ends.push(code);
    room.standby.fence();
    await settle();
    expect([frozen(busy), frozen(asleep), ends]).toEqual([true, true, ['unavailable']]);
    expect(() => busy.enter('request')).toThrow(/lease/);
    expect(() => asleep.enter('request')).toThrow(/lease/);
    room.standby.unfence();
    await settle();
    expect([busy.state, asleep.state]).toEqual(['running', 'paused']);
  });
});
