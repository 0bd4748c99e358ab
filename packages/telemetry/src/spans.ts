/** A span as the rooms see it, whether anybody hears of it or not. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { systemChance } from '@torpor/kernel';

export interface SpanOptions {
  /** The caller's trace, if it sent one. */
  readonly traceparent?: string | undefined;
  readonly attributes?: Readonly<Record<string, string | number | boolean>>;
  readonly kind?: 'server' | 'client' | 'internal';
}

export interface OpenSpan {
  /** What to send along with calls made under this span. */
  readonly traceparent: string;
  readonly traceId: string;
  set(attributes: Readonly<Record<string, string | number | boolean>>): void;
}

export type SpanWork<T> = (span: OpenSpan) => Promise<T>;

export interface Tracing {
  span<T>(name: string, options: SpanOptions, work: SpanWork<T>): Promise<T>;
  close(): Promise<void>;
}

const current = new AsyncLocalStorage<OpenSpan>();

/** The span that this code runs under, if it runs under one. */
export function currentSpan(): OpenSpan | undefined {
  return current.getStore();
}

/** Runs work under a span, which `currentSpan` then answers. */
export function within<T>(span: OpenSpan, work: SpanWork<T>): Promise<T> {
  return current.run(span, () => work(span));
}

/** Without an exporter the trace id still runs through every room, so that log lines can be joined. */
export function untraced(): Tracing {
  return {
    span: (_name, { traceparent }, work) => {
      const own = freshTraceparent(traceparent);
      return within({ traceparent: own, traceId: own.slice(3, 35), set: () => {} }, work);
    },
    close: async () => {},
  };
}

/** A new span id under the given trace, or under a new one. Form: `00-<32 hex>-<16 hex>-<flags>` (W3C Trace Context, level 1). */
export function freshTraceparent(parent: string | undefined): string {
  const given = /^00-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})$/.exec(parent ?? '');
  const bytes = systemChance.bytes(given ? 8 : 24).toString('hex');
  return `00-${given?.[1] ?? bytes.slice(16)}-${bytes.slice(0, 16)}-${given?.[2] ?? '00'}`;
}
