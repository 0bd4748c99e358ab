import { expect, it, vi } from 'vitest';
import { Remembered } from './remembered.ts';

function stage(read: (key: string) => Promise<string | undefined>) {
  let atMs = 0;
  const clock = { nowMs: () => atMs, monotonicMs: () => atMs, after: () => new Promise<void>(() => {}) };
  const reads = vi.fn<(key: string) => Promise<string | undefined>>(read);
  const limits = { freshMs: 10, lifeMs: 20, missMs: 5, graceMs: 100, entriesMax: 3 };
  return { seen: new Remembered<string>({ clock, read: reads, ...limits }), reads, wait: (ms: number) => (atMs += ms) };
}

it('reads once for many who ask at once, and not again while fresh', async () => {
  const { seen, reads, wait } = stage(async (key) => key);
  expect(await Promise.all([seen.get('a'), seen.get('a')])).toEqual(['a', 'a']);
  wait(9);
  expect(seen.now('a')?.value).toBe('a');
  expect(reads).toHaveBeenCalledTimes(1);
});

it('reads anew in the background when no longer fresh, and waits when dead', async () => {
  let value = 'old';
  const { seen, reads, wait } = stage(async () => value);
  await seen.get('a');
  value = 'new';
  wait(12);
  expect(seen.now('a')?.value).toBe('old');
  await vi.waitFor(() => expect(seen.now('a')?.value).toBe('new'));
  value = 'newest';
  wait(21);
  expect(seen.now('a')).toBeUndefined();
  expect(await seen.get('a')).toBe('newest');
  expect(reads).toHaveBeenCalledTimes(3);
});

it('believes that there is none only briefly', async () => {
  let value: string | undefined;
  const { seen, wait } = stage(async () => value);
  expect(await seen.get('a')).toBeUndefined();
  value = 'made';
  expect(await seen.get('a')).toBeUndefined();
  wait(5);
  expect(await seen.get('a')).toBe('made');
});

it('serves the last value through an outage of the store, and not for ever', async () => {
  let isDown = false;
  const { seen, wait } = stage(async () => {
    if (isDown) throw new Error('no database');
    return 'value';
  });
  await seen.get('a');
  isDown = true;
  wait(50);
  expect(await seen.get('a')).toBe('value');
  wait(60);
  await expect(seen.get('a')).rejects.toThrow('no database');
});

it('does not take back in what was forgotten while it was being read', async () => {
  const answers: ((value: string) => void)[] = [];
  const { seen } = stage(() => new Promise((resolve) => void answers.push(resolve)));
  const reading = seen.get('a');
  seen.forget('a');
  answers[0]?.('stale');
  await reading;
  expect(seen.now('a')).toBeUndefined();
});

it('holds no more than it may', async () => {
  const { seen } = stage(async (key) => key);
  for (const key of ['a', 'b', 'c', 'd']) await seen.get(key);
  expect([seen.now('a'), seen.now('d')?.value]).toEqual([undefined, 'd']);
});
