import { systemClock, type Clock } from './clock.ts';
import { Failure } from './failure.ts';

/**
 * Runs `work` under a deadline. When it passes, the signal aborts and the promise rejects with `deadline_exceeded`, naming the timer and its value;
 * an abort of `outer` aborts the work likewise.
 */
export async function withDeadline<T>(
  timer: { name: string; ms: number; clock?: Clock; outer?: AbortSignal },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const clock = timer.clock ?? systemClock;
  const own = new AbortController();
  const bell = new AbortController();
  const signal = timer.outer ? AbortSignal.any([own.signal, timer.outer]) : own.signal;
  const late = clock.after(timer.ms, bell.signal).then(
    () => {
      const failure = new Failure('deadline_exceeded', `the timer "${timer.name}" ended after ${timer.ms} ms`, {
        retryable: true,
        details: { timer: timer.name, ms: timer.ms },
      });
      own.abort(failure);
      throw failure;
    },
    () => new Promise<never>(() => {}),
  );
  try {
    return await Promise.race([work(signal), late, aborted(timer.outer, bell.signal)]);
  } finally {
    bell.abort(new Error('the work has ended'));
  }
}

function aborted(outer: AbortSignal | undefined, done: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (!outer) return;
    if (outer.aborted) return reject(outer.reason);
    outer.addEventListener('abort', () => reject(outer.reason), { once: true, signal: done });
  });
}
