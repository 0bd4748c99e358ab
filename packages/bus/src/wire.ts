import type { Call, Fact } from '@torpor/contracts';

/** What a served call is told besides its body. */
export interface CallContext {
  /** Aborts when the caller no longer waits. */
  readonly signal: AbortSignal;
  readonly traceparent: string | undefined;
}

export interface AskOptions {
  /** Fills `{node}` in the subject. */
  readonly node?: string;
  /** Shorter than the call's own deadline, never longer. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
  readonly traceparent?: string;
}

export interface Subscription {
  close(): Promise<void>;
}

/**
 * How rooms speak. Requests may arrive twice or not at all; an answer that does not come in time rejects with `deadline_exceeded`,
 * one that nobody serves with `unavailable`. Bodies are parsed by the call's shapes on both ends.
 */
export interface Wire {
  ask<Request, Reply>(call: Call<Request, Reply>, body: Request, options?: AskOptions): Promise<Reply>;
  /** `queue`: several servers of one call share its work; each request goes to one of them. */
  serve<Request, Reply>(
    call: Call<Request, Reply>,
    handler: (body: Request, context: CallContext) => Promise<Reply>,
    options?: { node?: string },
  ): Promise<Subscription>;
  publish<Body>(fact: Fact<Body>, body: Body): void;
  /** `onGap`: facts may have been missed before now; whoever keeps what was heard must look anew. */
  hear<Body>(fact: Fact<Body>, listener: (body: Body) => void, options?: { onGap?: () => void }): Promise<Subscription>;
  /** Where things are: in memory, disposable, possibly stale or empty. */
  readonly hints: Hints;
}

export interface Hints {
  get(key: string): Promise<string | undefined>;
  put(key: string, value: string): Promise<void>;
  drop(key: string): Promise<void>;
}
