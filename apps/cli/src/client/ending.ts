/**
 * Our end is the end of the program that we attend. Ctrl-C is passed on, and the program may live on by it; the second one ends us alone. Whoever ends us
 * by another signal, or reads our output no more (`main.ts` makes a SIGTERM of it), ends the program: it is given the signal, then made to end,
 * and whatever became of that, we end soon after.
 */
import { constants } from 'node:os';

export interface Times {
  /** For the program to end by itself, and then for it to be made to. */
  readonly graceMs: number;
  readonly killMs: number;
}

const TIMES: Times = { graceMs: 3_000, killMs: 2_000 };
const ENDING = ['SIGTERM', 'SIGHUP'] as const;

/** `send` gives the program a signal. `giveUp` is called with our exit code when the program has not ended in time. `close` gives the signals back. */
export function passSignalsOn(
  send: (signal: string) => Promise<unknown>,
  giveUp: (exitCode: number) => void,
  times: Times = TIMES,
): { close(): void } {
  const timers: NodeJS.Timeout[] = [];
  // A signal that cannot be sent has nobody to tell: either the program is gone, or the output breaks too and says so.
  const pass = (signal: string) => void send(signal).catch(() => {});
  const interrupt = () => pass('INT');
  const end = (signal: NodeJS.Signals) => {
    if (timers.length > 0) return; // it is being ended already
    pass(signal.replace('SIG', ''));
    timers.push(setTimeout(() => pass('KILL'), times.graceMs));
    timers.push(setTimeout(() => giveUp(128 + constants.signals[signal]), times.graceMs + times.killMs));
  };
  process.once('SIGINT', interrupt);
  for (const signal of ENDING) process.on(signal, end);
  return {
    close: () => {
      for (const timer of timers) clearTimeout(timer);
      process.off('SIGINT', interrupt);
      for (const signal of ENDING) process.off(signal, end);
    },
  };
}
