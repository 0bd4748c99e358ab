export { serveObserve, type Observation } from './observe.ts';
export { openTelemetry, silentTelemetry, type Log, type Telemetry, type TelemetryOptions } from './telemetry.ts';
export { currentSpan, freshTraceparent, type OpenSpan, type SpanOptions } from './spans.ts';
