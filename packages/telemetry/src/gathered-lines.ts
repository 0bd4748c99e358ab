/**
 * Log lines on their way to a file descriptor, gathered for a tenth of a second: each write wakes whoever reads the other end, which on a busy room cost as
 * much as the request that the line tells of. What is still here is written when the process exits; only a SIGKILL loses it.
 */
import pino from 'pino';

const GATHER_MS = 100;
/** From so much on it is written at once. */
const GATHERED_BYTES_MAX = 8 * 1024;

export function gatheredLines(fd: number): { write(line: string): void } {
  const out = pino.destination({ dest: fd, sync: true, minLength: GATHERED_BYTES_MAX });
  let isDue = false;
  process.once('exit', () => out.flushSync());
  function flush(): void {
    isDue = false;
    out.flush(); // written before it returns; flushSync would try to fsync a pipe besides
  }
  return {
    write(line) {
      out.write(line);
      if (isDue) return;
      isDue = true;
      setTimeout(flush, GATHER_MS).unref(); // a room that has nothing else to do may end: the exit writes them
    },
  };
}
