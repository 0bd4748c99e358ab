import { Receipt } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { beforeEach, describe, expect, it } from 'vitest';
import { rehearse, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from '../standby/instance.ts';

/** Longer than all that a wake does about a guest that says nothing. */
const OVER_MS = 90_000;

let clock: StillClock;
let set: Stage;
let room: Rehearsal;
let instance: Instance;

beforeEach(async () => {
  clock = new StillClock();
  set = stage(clock, { latencyMs: { 'sandbox.create': [80, 80] } });
  room = rehearse(set);
  const starting = room.standby.start(startAsk());
  await clock.go(1_000);
  await starting;
  instance = room.standby.at(startAsk().instanceId, 1);
  await exec('echo first > /root/file');
  await stored();
});

async function exec(shell: string): Promise<string> {
  const entered = Promise.resolve(instance.enter('request'));
  await clock.go(1_000);
  const stay = await entered;
  const answer = stay.guest.json<{ stdout: string }>('POST', '/v1/processes', { shell, waitMs: 100 });
  await clock.go(1_000);
  stay.leave();
  return (await answer).stdout;
}

async function stored(): Promise<void> {
  void instance.store('asked');
  await clock.go(1_000);
  expect(instance.state).toBe('stored');
}

/** Whoever asks first is told to ask again: this takes longer than anybody is held. */
function wake(): void {
  void instance.wake().catch(() => undefined);
}

const images = () => [...set.host.images.keys()].filter((name) => !name.includes('-disk-'));
const restores = () => set.host.calls.filter(({ verb }) => verb === 'sandbox.restore').length;

describe('an image that wants what the host has no longer', () => {
  const missing = new Failure('not_found', 'this host no longer has the build runsc-0', {
    details: { verb: 'sandbox.create' },
  });

  it('makes the wake fail, saying so, and stays; its files alone can be had by asking for that', async () => {
    const [image = ''] = images();
    for (let n = 0; n < 2; n++) set.host.failNext('sandbox.create', 'before', missing);
    wake();
    await clock.go(1_000);
    expect([instance.state, instance.report().lost, images()]).toEqual(['stored', undefined, [image]]);
    expect(instance.reason).toMatch(/no longer has the build runsc-0/);

    await instance.giveUpMemory();
    expect(instance.report()).toMatchObject({ state: 'stored', tier: 'files' });
    expect([await exec('cat /root/file'), restores(), images()]).toEqual(['first\n', 0, [image]]);
    expect(instance.report().lost).toMatchObject({ to: 'files', reason: expect.stringMatching(/somebody asked/) });
  });

  it('gives up, of what fell back to it, no file that is newer', async () => {
    wake();
    await clock.go(1_000);
    await exec('echo second > /root/file');
    for (const hostId of set.host.sandboxes.keys()) set.host.kill(hostId);
    await instance.check();
    for (let n = 0; n < 2; n++) set.host.failNext('sandbox.create', 'before', missing);
    wake();
    await clock.go(1_000);
    expect(instance.state).toBe('stored');
    await instance.giveUpMemory();
    expect(await exec('cat /root/file')).toBe('second\n');
  });

  it('is given up of no sandbox that runs', async () => {
    wake();
    await clock.go(1_000);
    await expect(instance.giveUpMemory()).rejects.toMatchObject({ code: 'conflict' });
  });
});

describe('an image whose guest never answers', () => {
  it('is tried twice and gives way to the files; that is told, and the image is kept', async () => {
    const [image = ''] = images();
    set.host.silence(image);
    wake();
    await clock.go(OVER_MS);
    expect([await exec('cat /root/file'), restores()]).toEqual(['first\n', 2]);
    const reason = expect.stringMatching(/its memory was lost.*2 restores.*a fresh sandbox beside it answered/);
    expect(instance.report().lost).toMatchObject({ to: 'files', reason });
    const [receipt] = await room.parts.receipts.of(instance.body?.hostId ?? startAsk().instanceId);
    expect(Receipt.parse(JSON.parse(receipt?.signed ?? '{}'))).toMatchObject({
      verdict: 'fell back',
      tier: 'files',
      refused: [{ image }],
    });
    expect([images(), set.host.sandboxes.size]).toEqual([[image], 1]); // and what was made to look has gone
  });

  it('gives way to the image before it', async () => {
    wake();
    await clock.go(1_000);
    await exec('echo second > /root/file');
    await stored();
    set.host.silence(images().at(-1) ?? '');
    wake();
    await clock.go(OVER_MS);
    expect(await exec('cat /root/file')).toBe('first\n');
    expect(instance.report().lost).toMatchObject({ to: 'image' });
  });

  it('holds up no wake of another sandbox, however many there are of it', async () => {
    const [own] = images();
    const others: Instance[] = [];
    for (const id of ['iother000001', 'iother000002', 'iother000003', 'iother000004']) {
      const ask = startAsk({ id });
      const starting = room.standby.start(ask);
      await clock.go(1_000);
      await starting;
      others.push(room.standby.at(ask.instanceId, ask.generation));
      void others.at(-1)?.store('asked');
      await clock.go(1_000);
    }
    for (const image of images()) if (image !== own) set.host.silence(image);
    for (const other of others) void other.wake().catch(() => undefined);
    await clock.go(1_000);
    wake();
    await clock.go(1_000);
    expect(instance.state).toBe('running');
    expect(others.map(({ state }) => state)).toEqual(Array(4).fill('restoring'));
    await clock.go(3 * OVER_MS);
  });

  it('is given up by no host where a fresh sandbox does not answer either', async () => {
    const [image = ''] = images();
    set.host.stall(true);
    wake();
    await clock.go(OVER_MS);
    expect([instance.state, instance.report().lost, images()]).toEqual(['stored', undefined, [image]]);
    expect(instance.reason).toMatch(/this host is in trouble/);
    set.host.stall(false);
    wake();
    await clock.go(1_000);
    expect([instance.state, instance.reason]).toEqual(['running', undefined]);
  });

  it('is given up by no host that has no room to try a fresh sandbox', async () => {
    const [image = ''] = images();
    set.host.silence(image);
    set.host.failNext('disk.create', 'before');
    wake();
    await clock.go(OVER_MS);
    expect([instance.state, instance.report().lost, images()]).toEqual(['stored', undefined, [image]]);
  });

  it('was only slow when it answers in the end', async () => {
    set.host.silence(images().at(-1) ?? '');
    wake();
    await clock.go(40_100);
    for (const sandbox of set.host.sandboxes.values()) sandbox.isSilent = false;
    await clock.go(10_000);
    expect([await exec('cat /root/file'), restores(), instance.report().lost]).toEqual(['first\n', 2, undefined]);
  });
});
