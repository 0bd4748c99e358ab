import { Failure, type Clock } from '@torpor/kernel';

/** Serves a request for as long as its caller waits: the signal aborts when that time has passed, by this side's clock. Absent: for ever. */
export async function whileAwaited<T>(
  clock: Clock,
  leftMs: number | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  const ended = new AbortController();
  if (leftMs !== undefined) {
    const late = new Failure('deadline_exceeded', `the caller no longer waits: it gave ${leftMs} ms`);
    clock.after(leftMs, ended.signal).then(
      () => over.abort(late),
      () => {}, // the work has ended first
    );
  }
  try {
    return await work(over.signal);
  } finally {
    ended.abort();
  }
}
