import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { passSignalsOn } from './ending.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it.each([
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const)('%s ends the program, and us when it does not end', async (signal, exitCode) => {
  const sent = vi.fn<(name: string) => Promise<void>>().mockRejectedValue(new Error('not reached'));
  const gaveUp = vi.fn<(code: number) => void>();
  const passing = passSignalsOn(sent, gaveUp, { graceMs: 300, killMs: 200 });
  process.emit(signal, signal);
  process.emit(signal, signal); // as an impatient one does
  await vi.advanceTimersByTimeAsync(299);
  expect(sent.mock.calls).toEqual([[signal.replace('SIG', '')]]);
  await vi.advanceTimersByTimeAsync(200);
  expect(sent.mock.calls.at(-1)).toEqual(['KILL']);
  expect(gaveUp).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);
  expect(gaveUp).toHaveBeenCalledExactlyOnceWith(exitCode);
  passing.close();
});

it('the first Ctrl-C is the program’s, the second is ours, and after the end all signals are', async () => {
  const before = process.listenerCount('SIGTERM');
  const sent = vi.fn<(name: string) => Promise<void>>().mockResolvedValue();
  const gaveUp = vi.fn<(code: number) => void>();
  const own = process.listenerCount('SIGINT');
  const passing = passSignalsOn(sent, gaveUp, { graceMs: 300, killMs: 200 });
  process.emit('SIGINT', 'SIGINT');
  expect(sent.mock.calls).toEqual([['INT']]);
  expect(process.listenerCount('SIGINT')).toBe(own); // the next one does what it does without us
  process.emit('SIGTERM', 'SIGTERM');
  passing.close();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(gaveUp).not.toHaveBeenCalled();
  expect(process.listenerCount('SIGTERM')).toBe(before);
});
