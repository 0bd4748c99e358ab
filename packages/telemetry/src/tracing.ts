/** Traces: W3C context in and out of every envelope and request, spans to an OTLP endpoint when one is configured. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';
import { context, propagation, SpanKind, SpanStatusCode, trace, type Context, type Span } from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { explain } from '@torpor/kernel';

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

function within<T>(span: OpenSpan, work: SpanWork<T>): Promise<T> {
  return current.run(span, () => work(span));
}

const KINDS = { server: SpanKind.SERVER, client: SpanKind.CLIENT, internal: SpanKind.INTERNAL };

export function openTracing(options: { room: string; version: string; otlpEndpoint?: string | undefined }): Tracing {
  if (!options.otlpEndpoint) return untraced();
  const exporter = new OTLPTraceExporter({ url: new URL('/v1/traces', options.otlpEndpoint).href });
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({ 'service.name': `torpor-${options.room}`, 'service.version': options.version }),
    spanProcessors: [new BatchSpanProcessor(exporter)],
  });
  provider.register({ propagator: new W3CTraceContextPropagator() });
  const tracer = provider.getTracer('torpor');
  return {
    span: async (name, { traceparent, attributes = {}, kind = 'internal' }, work) => {
      const parent = traceparent ? propagation.extract(context.active(), { traceparent }) : context.active();
      const span = tracer.startSpan(name, { kind: KINDS[kind], attributes: { ...attributes } }, parent);
      try {
        return await context.with(trace.setSpan(parent, span), () => within(openSpan(span, parent), work));
      } catch (error) {
        span.setStatus({ code: SpanStatusCode.ERROR, message: explain(error) });
        throw error;
      } finally {
        span.end();
      }
    },
    close: () => provider.shutdown(),
  };
}

function openSpan(span: Span, parent: Context): OpenSpan {
  const carrier: { traceparent?: string } = {};
  propagation.inject(trace.setSpan(parent, span), carrier);
  return {
    traceparent: carrier.traceparent ?? freshTraceparent(undefined),
    traceId: span.spanContext().traceId,
    set: (attributes) => span.setAttributes({ ...attributes }),
  };
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
  const bytes = randomBytes(24).toString('hex');
  return `00-${given?.[1] ?? bytes.slice(0, 32)}-${bytes.slice(32)}-${given?.[2] ?? '00'}`;
}
