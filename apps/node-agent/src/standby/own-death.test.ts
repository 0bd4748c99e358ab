import { beforeEach, describe, expect, it } from 'vitest';
import { rehearse, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from './instance.ts';

let clock: StillClock;
let set: Stage;
let room: Rehearsal;
let instance: Instance;

/** It was stored with its first file, and has run since. */
beforeEach(async () => {
  clock = new StillClock();
  set = stage(clock);
  room = rehearse(set);
  await room.standby.start(startAsk());
  instance = room.standby.at(startAsk().instanceId, 1);
  await exec('echo first > /root/file');
  void instance.store('asked');
  await clock.go(1_000);
  await exec('echo second > /root/file');
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

function dies(cause: string): void {
  for (const hostId of set.host.sandboxes.keys()) set.host.kill(hostId, { cause });
}

async function reborn(): Promise<void> {
  room.die();
  room = rehearse(set);
  await room.standby.adopt();
  instance = room.standby.at(startAsk().instanceId, 1);
}

const snapshots = () => instance.shelf.snapshots.map(({ because }) => because);

describe('a sandbox that dies of what ran in it, long after its last image was made', () => {
  it.each(['memory', 'pids', 'exited'])(
    'by %s, goes on with its files as they were then; only its memory is lost',
    async (cause) => {
      dies(cause);
      await instance.check();
      expect(instance.report()).toMatchObject({ state: 'stored', tier: 'files' });
      expect([await exec('cat /root/file'), instance.report().lost?.to]).toEqual(['second\n', 'files']);
    },
  );

  it('keeps its last image as a snapshot that can be gone back to', async () => {
    dies('memory');
    await instance.check();
    await exec('true');
    expect(snapshots()).toEqual(['death']);
    const [{ image } = { image: '' }] = instance.shelf.snapshots;
    const back = instance.snapshots.rewind(image);
    await clock.go(2_000);
    await back;
    expect(await exec('cat /root/file')).toBe('first\n');
  });

  it('does so too when it died while no node-agent ran, and when the next one is cut short as well', async () => {
    dies('memory');
    await reborn();
    expect(instance.report()).toMatchObject({ state: 'stored', tier: 'files' });
    await reborn();
    expect([await exec('cat /root/file'), snapshots()]).toEqual(['second\n', ['death']]);
  });

  it('lets in whoever came as it died', async () => {
    await clock.go(15_000);
    expect(instance.state).toBe('paused');
    set.host.failNext('sandbox.resume', 'before');
    const waking = instance.wake();
    dies('memory');
    await clock.go(2_000);
    await waking;
    expect(await exec('cat /root/file')).toBe('second\n');
  });
});

it('a sandbox that gVisor gave up on goes back to its last image, and its disk is kept', async () => {
  dies('crashed');
  await instance.check();
  expect([await exec('cat /root/file'), instance.report().lost?.to]).toEqual(['first\n', 'image']);
  expect([...set.host.images.keys()].some((name) => name.includes('-disk-'))).toBe(true);
});
