/** The bar: no verb of hostd but pause and wake, and no claim, before its intent lies fsynced. Here the disk is slow, so that whoever does not wait is caught. */
import type { InstanceId } from '@torpor/contracts';
import { expect, it } from 'vitest';
import { rehearse, SHAPE, settle, stage, startAsk, StillClock } from '../rehearsal.ts';
import { MemoryJournalStore } from './store.ts';

/** Reports, asked of the host at any time. */
const FREE = new Set([
  'node.prepare',
  'sandbox.state',
  'sandbox.stats',
  'inventory',
  'sandbox.pause',
  'sandbox.resume',
]);

class SlowStore extends MemoryJournalStore {
  readonly fsynced = new Map<InstanceId, string>();

  override async append(id: InstanceId, line: string, options: { durable: boolean; first: boolean }): Promise<void> {
    await settle();
    await super.append(id, line, options);
    if (options.durable) this.fsynced.set(id, (this.fsynced.get(id) ?? '') + line);
  }

  intends(id: InstanceId, operation: string | undefined, step?: string): boolean {
    const lines = (this.fsynced.get(id) ?? '').split('\n').filter(Boolean);
    return lines.some((text) => {
      const line = JSON.parse(text) as { kind: string; operation?: string; steps?: string[] }; // our own journal's line
      return (
        line.kind === 'intent' &&
        (operation ?? line.operation) === line.operation &&
        (step === undefined || line.steps?.includes(step))
      );
    });
  }
}

it('nothing is changed on the host before the intent to do it is durable', async () => {
  const clock = new StillClock();
  const store = new SlowStore();
  const set = { ...stage(clock), store };
  const seen: string[] = [];
  const early: string[] = [];
  const act = set.host.act.bind(set.host);
  set.host.act = (verb, id, work) => {
    if (!FREE.has(verb)) {
      seen.push(verb);
      if (!id || !store.intends(id, undefined, verb)) early.push(verb);
    }
    return act(verb, id, work);
  };
  const { parts, pools, standby } = rehearse(set, { targets: [{ template: 'base', shape: SHAPE, size: 1 }] });
  const guestOf = parts.driver.guest.bind(parts.driver);
  parts.driver.guest = (handle, token) => {
    const guest = guestOf(handle, token);
    const claim = guest.claim.bind(guest);
    guest.claim = (identity) => {
      seen.push('claim');
      if (!store.intends(handle.instanceId, 'claim')) early.push('claim');
      return claim(identity);
    };
    return guest;
  };

  void pools.keepFull();
  for (let turn = 0; turn < 20; turn++) await clock.go(100);
  const starting = [startAsk({ id: 'iaaaaaaaaaaa' }), startAsk({ id: 'ibbbbbbbbbbb' })].map((ask, at) =>
    standby.start({ ...ask, name: ask.name, ...(at === 1 ? { shape: { ...SHAPE, memoryMib: 256 } } : {}) }),
  );
  for (let turn = 0; turn < 40; turn++) await clock.go(100);
  await Promise.all(starting);
  for (const { instanceId, generation } of [startAsk({ id: 'iaaaaaaaaaaa' }), startAsk({ id: 'ibbbbbbbbbbb' })]) {
    const stopping = standby.stop(instanceId, generation, 'the test is over');
    for (let turn = 0; turn < 20; turn++) await clock.go(100);
    await stopping;
  }

  expect(early).toEqual([]);
  // Both ways of birth and both ends were walked.
  expect([...new Set(seen)].sort()).toEqual(
    [
      'claim',
      'disk.create',
      'disk.delete',
      'guest.health',
      'net.create',
      'net.delete',
      'sandbox.create',
      'sandbox.delete',
      'sandbox.start',
    ].sort(),
  );
});
