import { afterEach, describe, expect, it, vi } from 'vitest';
import { systemClock } from './clock.ts';

afterEach(() => vi.useRealTimers());

describe('the system clock', () => {
  it('waits longer than one timer of Node’s can, instead of not at all', async () => {
    vi.useFakeTimers();
    const months = 90 * 86_400_000;
    let rang = false;
    const waiting = systemClock.after(months).then(() => (rang = true));
    await vi.advanceTimersByTimeAsync(months - 1);
    expect(rang).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    await waiting;
    expect(rang).toBe(true);
  });

  it('can be told to stop within any part of a long wait', async () => {
    vi.useFakeTimers();
    const stop = new AbortController();
    const told = systemClock.after(2 ** 32, stop.signal).catch((reason: unknown) => reason);
    await vi.advanceTimersByTimeAsync(2 ** 31 + 10);
    const enough = new Error('enough');
    stop.abort(enough);
    expect(await told).toBe(enough);
    expect(vi.getTimerCount()).toBe(0);
  });
});
