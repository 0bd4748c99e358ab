import { WorkspaceName } from '@torpor/contracts';
import { Failure, Lifetime } from '@torpor/kernel';
import { memoryStore } from '@torpor/store';
import { expect, it, vi } from 'vitest';
import { openAudit } from './audit.ts';

const main = WorkspaceName.parse('main');
const use = { workspace: main, actor: 'key:ci', action: 'sandbox.use', target: 'web', outcome: 'ok' };

it('notes the same entry once a minute, and each that differs', async () => {
  const { audit, clock, lines } = stage();
  for (let i = 0; i < 5; i++) audit.note(use);
  audit.note({ ...use, target: 'other' });
  clock.atMs = 59_999;
  audit.note(use);
  await expect.poll(lines).toEqual(['web 0', 'other 0']);
  clock.atMs = 60_000;
  audit.note(use);
  await expect.poll(lines).toEqual(['web 0', 'other 0', 'web 60000']);
});

it('notes no more than it may within a minute, and says so once', async () => {
  const { audit, lines, troubles } = stage();
  for (let i = 0; i < 5_005; i++) audit.note({ ...use, target: `t${i}` });
  await expect.poll(async () => (await lines()).length).toBe(5_000);
  expect(troubles).toHaveBeenCalledTimes(1);
});

it('keeps an entry while the database is away, and writes it when it is back', async () => {
  const { audit, clock, lines, store, troubles } = stage();
  const append = vi
    .spyOn(store.audit, 'append')
    .mockRejectedValueOnce(new Failure('unavailable', 'away', { retryable: true }));
  await audit.during({ ...use, target: () => 'web' }, async () => {});
  await expect.poll(() => clock.bells.length).toBe(1);
  expect([append.mock.calls.length, await lines()]).toEqual([1, []]);
  clock.bells[0]?.();
  await expect.poll(lines).toEqual(['web 0']);
  expect(troubles).not.toHaveBeenCalled();
});

it('closes although the database is away, and says what is lost with it', async () => {
  const { audit, clock, lifetime, store, troubles } = stage();
  vi.spyOn(store.audit, 'append').mockRejectedValue(new Failure('unavailable', 'away', { retryable: true }));
  audit.note(use);
  await expect.poll(() => clock.bells.length).toBe(1);
  await lifetime.close();
  expect(troubles).toHaveBeenCalledTimes(1);
});

function stage() {
  const store = memoryStore();
  const lifetime = new Lifetime();
  const clock = {
    atMs: 0,
    bells: new Array<() => void>(),
    nowMs: () => clock.atMs,
    monotonicMs: () => clock.atMs,
    after: (_ms: number, signal?: AbortSignal) =>
      new Promise<void>((resolve, reject) => {
        clock.bells.push(resolve);
        signal?.addEventListener('abort', () => reject(signal.reason));
      }),
  };
  const troubles = vi.fn<(doing: string, error: unknown) => void>();
  const audit = openAudit({ store, clock, lifetime, onTrouble: troubles });
  const lines = async () => {
    const rows = await store.workspace(main).audit.list({ limit: 20_000 });
    return rows.map(({ target, atMs }) => `${target} ${atMs}`).toReversed();
  };
  return { audit, clock, lifetime, store, troubles, lines };
}
