import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import pino from 'pino';
import { gatheredLines } from './gathered-lines.ts';
import { currentSpan, untraced, type SpanWork, type SpanOptions, type Tracing } from './spans.ts';
import { openTracing } from './tracing.ts';

type Attributes = Readonly<Record<string, unknown>>;
type Labels = Readonly<Record<string, string>>;

/** One wide line per operation; `event` says what happened, attributes carry ids and figures. Never a secret. */
export interface Log {
  debug(event: string, attributes?: Attributes): void;
  info(event: string, attributes?: Attributes): void;
  warn(event: string, attributes?: Attributes): void;
  error(event: string, attributes?: Attributes): void;
}

export interface Telemetry {
  readonly log: Log;
  /** Metrics of one name are made once; asking again gives the same one. Labels have few values: ids belong on logs. */
  counter(name: string, help: string, labels?: readonly string[]): { add(amount?: number, labels?: Labels): void };
  gauge(name: string, help: string, labels?: readonly string[]): { set(value: number, labels?: Labels): void };
  /** Of milliseconds, unless the name says otherwise. */
  histogram(
    name: string,
    help: string,
    labels?: readonly string[],
    buckets?: readonly number[],
  ): { observe(value: number, labels?: Labels): void };
  /** The Prometheus text of everything above. */
  metrics(): Promise<string>;
  span<T>(name: string, options: SpanOptions, work: SpanWork<T>): Promise<T>;
  close(): Promise<void>;
}

const BUCKETS_MS = [0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 60_000];

export interface TelemetryOptions {
  readonly room: string;
  readonly version: string;
  readonly logLevel?: 'debug' | 'info' | 'warn' | 'error';
  readonly otlpEndpoint?: string | undefined;
  /** Where log lines go, one by one; default the standard output, gathered, which the supervisor collects. */
  readonly write?: (line: string) => void;
}

export function openTelemetry(options: TelemetryOptions): Telemetry {
  const { write } = options;
  const settings: pino.LoggerOptions = {
    level: options.logLevel ?? 'info',
    base: { room: options.room },
    messageKey: 'event',
    mixin: traceOfLine,
    // What a line says itself counts more.
    mixinMergeStrategy: (said, mixed) => ({ ...mixed, ...said }),
  };
  const logger = pino(settings, write ? { write } : gatheredLines(process.stdout.fd));
  return assemble(logger, openTracing(options));
}

/** Every line under a span carries its trace id, so that one id finds the operation in every room's lines. */
function traceOfLine(): Attributes {
  const traceId = currentSpan()?.traceId;
  return traceId === undefined ? {} : { traceId };
}

/** Telemetry that nobody reads: for tests. Metrics still count. */
export function silentTelemetry(): Telemetry {
  return assemble(pino({ level: 'silent' }), untraced());
}

function assemble(logger: pino.Logger, tracing: Tracing): Telemetry {
  const registry = new Registry();
  const line =
    (level: 'debug' | 'info' | 'warn' | 'error') =>
    (event: string, attributes: Attributes = {}) =>
      logger[level](attributes, event);
  return {
    log: { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') },
    counter: (name, help, labels = []) => {
      const counter = once(
        registry,
        name,
        () => new Counter({ name, help, labelNames: [...labels], registers: [registry] }),
      );
      return { add: (amount = 1, values = {}) => counter.inc({ ...values }, amount) };
    },
    gauge: (name, help, labels = []) => {
      const gauge = once(
        registry,
        name,
        () => new Gauge({ name, help, labelNames: [...labels], registers: [registry] }),
      );
      return { set: (value, values = {}) => gauge.set({ ...values }, value) };
    },
    histogram: (name, help, labels = [], buckets = BUCKETS_MS) => {
      const make = () =>
        new Histogram({ name, help, labelNames: [...labels], buckets: [...buckets], registers: [registry] });
      const histogram = once(registry, name, make);
      return { observe: (value, values = {}) => histogram.observe({ ...values }, value) };
    },
    metrics: () => registry.metrics(),
    span: tracing.span,
    close: tracing.close,
  };
}

function once<M>(registry: Registry, name: string, make: () => M): M {
  // The registry knows metrics by name only; whoever made this one made it by the same call.
  return (registry.getSingleMetric(name) as M | undefined) ?? make();
}
