import { previewCounts, type UseFacts } from '@torpor/policy';
import type { Clock } from '@torpor/kernel';

/** `request` holds awake until it is released, and so does `stream`; `preview` counts by its bytes. */
export type UseKind = 'request' | 'stream' | 'preview';

/** How an instance is used: what is open and when it was last used. Our own platform's calls never come by here. */
export class Uses {
  readonly #clock: Clock;
  readonly #open = { request: 0, stream: 0, preview: 0 };
  #lastUseMs: number;
  #lastUseWallMs: number;
  #lastPreviewMs: number | undefined;
  #bytes = { fromClient: 0, fromInstance: 0 };

  constructor(clock: Clock, lastUsedAtMs = clock.nowMs()) {
    this.#clock = clock;
    this.#lastUseWallMs = lastUsedAtMs;
    this.#lastUseMs = clock.monotonicMs() - Math.max(0, clock.nowMs() - lastUsedAtMs);
  }

  begin(kind: UseKind): void {
    this.#open[kind]++;
    this.touch();
  }

  /** `preview` bytes alone are counted by `bytes`; the end of one is no use. */
  end(kind: UseKind): void {
    this.#open[kind]--;
    if (kind !== 'preview') this.touch();
  }

  touch(): void {
    this.#lastUseMs = this.#clock.monotonicMs();
    this.#lastUseWallMs = this.#clock.nowMs();
  }

  /** Bytes that a preview's socket moved. */
  bytes(moved: { fromClient: number; fromInstance: number }): void {
    this.#bytes.fromClient += moved.fromClient;
    this.#bytes.fromInstance += moved.fromInstance;
    if (!previewCounts(this.#bytes)) return;
    this.#bytes = { fromClient: 0, fromInstance: 0 };
    this.#lastPreviewMs = this.#clock.monotonicMs();
    this.#lastUseWallMs = this.#clock.nowMs();
  }

  /** A window of stillness has passed: pongs do not add up over hours. */
  forgetBytes(): void {
    this.#bytes = { fromClient: 0, fromInstance: 0 };
  }

  get holds(): boolean {
    return this.#open.request + this.#open.stream > 0;
  }

  /** Now, while something holds it. */
  get lastUsedAtMs(): number {
    return this.holds ? this.#clock.nowMs() : this.#lastUseWallMs;
  }

  facts(): Omit<UseFacts, 'policy' | 'keepAlive'> {
    return {
      nowMs: this.#clock.monotonicMs(),
      lastUseMs: this.#lastUseMs,
      openRequests: this.#open.request,
      openStreams: this.#open.stream,
      lastPreviewMs: this.#lastPreviewMs,
    };
  }
}
