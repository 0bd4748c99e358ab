import { setTimeout as after } from 'node:timers/promises';

/** Waits for a condition and answers how long it took, in ms. `why` is asked for more words when it never comes. */
export async function until(
  what: string,
  withinMs: number,
  holds: () => Promise<boolean>,
  why?: () => Promise<string> | string,
): Promise<number> {
  const began = performance.now();
  while (!(await holds())) {
    if (performance.now() - began > withinMs) {
      throw new Error(`not within ${withinMs} ms: ${what}${why ? `; ${await why()}` : ''}`);
    }
    await after(20);
  }
  return performance.now() - began;
}
