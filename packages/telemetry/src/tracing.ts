/** Traces: W3C context in and out of every envelope and request, spans to an OTLP endpoint when one is configured. */
import { untraced, type Tracing } from './spans.ts';

export function openTracing(options: { room: string; version: string; otlpEndpoint?: string | undefined }): Tracing {
  const { otlpEndpoint, ...named } = options;
  if (!otlpEndpoint) return untraced();
  // OpenTelemetry is a third of all modules of a room: only who exports traces waits for it at each start.
  const exporting = import('./exported-tracing.ts').then(({ exportedTracing }) =>
    exportedTracing({ ...named, otlpEndpoint }),
  );
  return {
    span: async (name, spanOptions, work) => (await exporting).span(name, spanOptions, work),
    close: async () => (await exporting).close(),
  };
}
