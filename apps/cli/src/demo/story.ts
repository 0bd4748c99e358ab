/** Tells a run as a readable story: what was done, what was promised, whether it held, how long it took. */
export interface Story {
  say(text: string): void;
  /** Does one thing and says how long it took. */
  step<T>(title: string, work: () => Promise<T>): Promise<T>;
  /** States a promise and whether it held. A broken one is remembered. */
  promise(text: string, held: boolean, seen?: string): void;
  /** How many promises were broken. */
  readonly broken: number;
}

export function tellStory(write: (text: string) => void): Story {
  let broken = 0;
  return {
    say: (text) => write(`\n${text}\n`),
    step: async (title, work) => {
      const began = performance.now();
      const tell = (what: string) =>
        write(`  ${what.padEnd(64)} ${`${(performance.now() - began).toFixed(1)} ms`.padStart(12)}\n`);
      try {
        const result = await work();
        tell(title);
        return result;
      } catch (error) {
        tell(`FAILED ${title}`);
        throw error;
      }
    },
    promise: (text, held, seen) => {
      if (!held) broken++;
      write(`  ${held ? 'kept  ' : 'BROKEN'} ${text}${seen === undefined ? '' : ` (${seen})`}\n`);
    },
    get broken() {
      return broken;
    },
  };
}
