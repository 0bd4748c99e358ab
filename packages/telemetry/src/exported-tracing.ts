/** Spans to an OTLP endpoint, by OpenTelemetry. */
import { context, propagation, SpanKind, SpanStatusCode, trace, type Context, type Span } from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { explain } from '@torpor/kernel';
import { freshTraceparent, within, type OpenSpan, type Tracing } from './spans.ts';

const KINDS = { server: SpanKind.SERVER, client: SpanKind.CLIENT, internal: SpanKind.INTERNAL };

export function exportedTracing(options: { room: string; version: string; otlpEndpoint: string }): Tracing {
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
