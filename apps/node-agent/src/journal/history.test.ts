import { InstanceId } from '@torpor/contracts';
import { expect, it } from 'vitest';
import { rehearse, stage, startAsk, StillClock } from '../rehearsal.ts';

it('tells of a life what was written down: the births of images at the moment that they hold, and what became of them', async () => {
  const clock = new StillClock();
  const set = stage(clock, { latencyMs: { 'image.save': [100, 100] } });
  const room = rehearse(set);
  async function go<T>(work: Promise<T>): Promise<T> {
    const watched = { over: false };
    const over = () => void (watched.over = true);
    work.then(over, over);
    while (!watched.over) await clock.go(10);
    return await work;
  }
  await room.standby.start(startAsk({ idle: { kind: 'never' } }));
  const instance = room.standby.at(startAsk().instanceId, 1);
  const beganAtMs = clock.nowMs();
  const { image } = await go(instance.snapshots.make({ because: 'asked', name: 'one' }));
  await go(instance.store('asked'));
  await go(instance.wake());
  await go(instance.snapshots.rewind('one'));
  await go(instance.snapshots.remove('one')).catch(() => {}); // it may be what it woke from
  await clock.go(500);
  const hostId = instance.body?.hostId ?? InstanceId.parse('nobodynobody');
  const events = await room.parts.journal.history(hostId);
  expect(events.map(({ what }) => what)).toEqual([
    'created',
    'snapshot',
    'stored',
    'woke from image',
    'stored',
    'kept',
    'went back',
    'woke from image',
    'let go',
  ]);
  expect(events[1]).toMatchObject({ image, atMs: beganAtMs });
  expect(events.map(({ atMs }) => atMs)).toEqual(events.map(({ atMs }) => atMs).toSorted((a, b) => a - b));
});
