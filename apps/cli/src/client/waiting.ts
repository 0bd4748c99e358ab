import type { Out } from '../setup/progress.ts';

/** Nobody needs to be told of what is over before they look. */
const FIRST_MS = 700;
const EVERY_MS = 500;

/** While the work goes on, one line of a terminal says what it is, for how long, and when at the latest it ends. Elsewhere nothing is shown. */
export async function waiting<T>(work: Promise<T>, what: string, deadlineMs: number, out: Out): Promise<T> {
  if (!out.isTTY) return work;
  const began = performance.now();
  let shown = false;
  const timer = setInterval(() => {
    const tookMs = performance.now() - began;
    if (tookMs < FIRST_MS) return;
    shown = true;
    out.write(`\r\x1b[K${what}: ${Math.round(tookMs / 1000)} s, at most ${deadlineMs / 1000} s`);
  }, EVERY_MS);
  try {
    return await work;
  } finally {
    clearInterval(timer);
    if (shown) out.write('\r\x1b[K');
  }
}
