import { expect, it, vi } from 'vitest';
import { Remembered } from './remembered.ts';

function stage(read: (key: string) => Promise<string | undefined>) {
  let atMs = 0;
  const bells: { ms: number; ring: () => void }[] = [];
  const after = (ms: number) => new Promise<void>((ring) => void bells.push({ ms, ring }));
  const clock = { nowMs: () => atMs, monotonicMs: () => atMs, after };
  const reads = vi.fn<(key: string) => Promise<string | undefined>>(read);
  const limits = { freshMs: 10, lifeMs: 20, missMs: 5, graceMs: 1_000, entriesMax: 3 };
  const seen = new Remembered<string>({ clock, read: reads, ...limits });
  return { seen, reads, bells, wait: (ms: number) => (atMs += ms) };
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
  wait(500);
  expect(await seen.get('a')).toBe('value');
  wait(600);
  await expect(seen.get('a')).rejects.toThrow('no database');
});

it('serves the last value when the store hangs: after one short patience, then at once, until it answers', async () => {
  const answers: ((value: string) => void)[] = [];
  const { seen, reads, bells, wait } = stage(() => new Promise((resolve) => void answers.push(resolve)));
  const first = seen.get('a');
  answers[0]?.('value');
  await first;
  wait(50);
  const waiting = seen.get('a');
  expect(bells.map(({ ms }) => ms)).toEqual([250]);
  wait(250);
  bells[0]?.ring();
  expect(await waiting).toBe('value');
  const next = seen.get('a');
  expect(bells.map(({ ms }) => ms)).toEqual([250, 0]);
  bells[1]?.ring();
  expect(await next).toBe('value');
  answers[1]?.('newer');
  await vi.waitFor(() => expect(seen.now('a')?.value).toBe('newer'));
  expect(reads).toHaveBeenCalledTimes(2);
});

it('does not serve the last value of what was forgotten while the store hung', async () => {
  const answers: ((value: string | undefined) => void)[] = [];
  const { seen, bells, wait } = stage(() => new Promise((resolve) => void answers.push(resolve)));
  const first = seen.get('a');
  answers[0]?.('revoked soon');
  await first;
  wait(50);
  const waiting = seen.get('a');
  seen.forget('a');
  bells[0]?.ring();
  await new Promise(setImmediate); // the bell is heard before the answer comes
  answers[1]?.(undefined);
  expect(await waiting).toBeUndefined();
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
