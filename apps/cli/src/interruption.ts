import { Failure } from '@torpor/kernel';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Aborts, with these words, when somebody ends us by a signal; so that what is under way ends well. `close` gives the signals back. */
export function onInterruption(words: string): { readonly signal: AbortSignal; close(): void } {
  const interruption = new AbortController();
  const interrupt = () => interruption.abort(new Failure('client_closed', words));
  for (const signal of SIGNALS) process.once(signal, interrupt);
  return {
    signal: interruption.signal,
    close: () => {
      for (const signal of SIGNALS) process.off(signal, interrupt);
    },
  };
}
