/**
 * What a person sees while the set-up works. On a terminal the running steps are one live line at the bottom; elsewhere
 * (CI, a pipe) there is a line when a step starts, every 15 s while it runs, and when it ends.
 */
export interface Out {
  readonly write: (text: string) => unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

export interface Progress {
  readonly started: (title: string) => void;
  readonly told: (title: string, line: string) => void;
  readonly ended: (title: string, how: 'done' | 'failed' | 'interrupted') => void;
  readonly close: () => void;
}

const tickMs = { live: 1_000, plain: 15_000 };

export function progressOn(out: Out, now: () => number = () => performance.now()): Progress {
  const live = out.isTTY === true;
  const startedAt = new Map<string, number>();
  const beginMs = now();
  let timer: NodeJS.Timeout | null = null;

  function line(text: string): void {
    if (live) out.write('\r\x1b[K');
    out.write(`${seconds(now() - beginMs).padStart(8)}  ${text}\n`);
    if (live) draw();
  }
  function draw(): void {
    if (startedAt.size === 0) return;
    const running = [...startedAt].map(([title, at]) => `${title} ${seconds(now() - at)}`).join(', ');
    out.write(`\r\x1b[K${`${seconds(now() - beginMs).padStart(8)}  … ${running}`.slice(0, (out.columns || 80) - 1)}`);
  }
  function remind(): void {
    if (live) return draw();
    for (const [title, at] of startedAt) line(`${title}: still at it after ${seconds(now() - at)}`);
  }

  return {
    started(title) {
      startedAt.set(title, now());
      timer ??= setInterval(remind, live ? tickMs.live : tickMs.plain).unref();
      if (live) draw();
      else line(`${title} …`);
    },
    told(title, text) {
      line(`${title}: ${text}`);
    },
    ended(title, how) {
      const tookMs = now() - (startedAt.get(title) ?? now());
      startedAt.delete(title);
      line(`${title}: ${how} ${how === 'done' ? 'in' : 'after'} ${seconds(tookMs)}`);
    },
    close() {
      if (timer !== null) clearInterval(timer);
      if (live) out.write('\r\x1b[K');
    },
  };
}

function seconds(ms: number): string {
  return ms < 59_950
    ? `${(ms / 1000).toFixed(1)} s`
    : `${Math.floor(ms / 60_000)} m ${String(Math.floor((ms % 60_000) / 1000)).padStart(2, '0')} s`;
}
