/** The node's lease on its instances: while it holds they may run here and nowhere else. Without one (`leaseMs` 0, a single box) nothing ever ends. */
import type { Clock } from '@torpor/kernel';
import type { Note } from '../note.ts';

export interface LeaseOptions {
  readonly clock: Clock;
  /** Where the end is remembered, so that a restart gives us no time that we do not have. */
  readonly note: Note;
  readonly closing: AbortSignal;
  lost(): void;
  renewed(): void;
}

export class Lease {
  readonly #options: LeaseOptions;
  #untilMs: number | undefined;
  #over = false;
  #changed: (() => void) | undefined;

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  get isOver(): boolean {
    return this.#over;
  }

  /** What was held when the last node-agent ended. */
  async recall(): Promise<void> {
    const text = await this.#options.note.read();
    const atMs = text === undefined ? 0 : Number(text);
    if (!(atMs > 0)) return;
    this.#untilMs = this.#options.clock.monotonicMs() + (atMs - this.#options.clock.nowMs());
    this.#look();
  }

  /** The scheduler answered a heartbeat that was sent at `sentMs` (monotonic): the lease runs from there, not from the answer. */
  renew(sentMs: number, leaseMs: number): void {
    const { clock, note } = this.#options;
    this.#untilMs = leaseMs > 0 ? sentMs + leaseMs : undefined;
    const atMs = this.#untilMs === undefined ? 0 : clock.nowMs() + (this.#untilMs - clock.monotonicMs());
    void note.write(String(Math.round(atMs)));
    this.#look();
    this.#changed?.();
  }

  /** Watches for the end until the room closes. */
  async watch(): Promise<void> {
    const { clock, closing } = this.#options;
    while (!closing.aborted) {
      this.#look();
      const own = new AbortController();
      const changed = new Promise<void>((resolve) => (this.#changed = resolve));
      const end =
        this.#over || this.#untilMs === undefined
          ? []
          : [clock.after(Math.max(1, this.#untilMs - clock.monotonicMs()), own.signal)];
      const closed = new Promise<void>((resolve) =>
        closing.addEventListener('abort', () => resolve(), { once: true, signal: own.signal }),
      );
      await Promise.race([changed, closed, ...end]).catch(() => {});
      for (const wait of end) wait.catch(() => {});
      own.abort(new Error('no longer waited for'));
    }
  }

  #look(): void {
    const over = this.#untilMs !== undefined && this.#untilMs <= this.#options.clock.monotonicMs();
    if (over === this.#over) return;
    this.#over = over;
    if (over) this.#options.lost();
    else this.#options.renewed();
  }
}
