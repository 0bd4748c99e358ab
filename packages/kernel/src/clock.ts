/** Time, as a room is given it. Tests and the simulator give another one, so that a bad day can be replayed. */
export interface Clock {
  /** Wall time in milliseconds since the epoch. */
  nowMs(): number;
  /** Milliseconds of a clock that never steps back; only differences mean something. */
  monotonicMs(): number;
  /** Resolves after `ms`; rejects with the signal's reason as soon as it aborts. */
  after(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The longest that one timer of Node's can be set to; beyond it the timer would ring at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      let leftMs = ms;
      let timer: NodeJS.Timeout;
      wait();
      signal?.addEventListener('abort', stop, { once: true });
      function wait() {
        const stepMs = Math.min(leftMs, TIMER_MS_MAX);
        leftMs -= stepMs;
        timer = setTimeout(leftMs > 0 ? wait : done, stepMs);
      }
      function done() {
        signal?.removeEventListener('abort', stop);
        resolve();
      }
      function stop() {
        clearTimeout(timer);
        reject(signal?.reason);
      }
    }),
};
