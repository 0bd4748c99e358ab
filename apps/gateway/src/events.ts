/** What the gateway tells of itself: one wide line per exchange, and the metrics that go with it. */
import { explain, Failure } from '@torpor/kernel';
import type { Telemetry } from '@torpor/telemetry';
import type { Ending } from './front/exchange.ts';

export type Plane = 'control' | 'run' | 'preview' | 'rpc' | 'other';

export interface GatewayEvents {
  served(about: {
    plane: Plane;
    method: string;
    id: string;
    traceId: string;
    ending: Ending;
    tookMs: number;
    notes: Readonly<Record<string, unknown>>;
  }): void;
  /** A bug of ours ended an exchange. */
  broke(about: { plane: Plane; id: string; error: unknown }): void;
  /** Something in the background went wrong; it will be tried again. */
  troubled(doing: string, error: unknown): void;
  /** Bytes that were no HTTP, or a head that never ended. */
  unreadable(code: string): void;
  tunnels(change: 1 | -1): void;
}

export function gatewayEvents(telemetry: Telemetry): GatewayEvents {
  const { log } = telemetry;
  const exchanges = telemetry.counter('torpor_gateway_exchanges_total', 'Exchanges with the outside', [
    'plane',
    'status',
    'outcome',
  ]);
  const took = telemetry.histogram('torpor_gateway_exchange_ms', 'From the head to the last byte, milliseconds', [
    'plane',
  ]);
  const troubles = telemetry.counter('torpor_gateway_troubles_total', 'Background work that failed', ['doing']);
  const unreadable = telemetry.counter('torpor_gateway_unreadable_total', 'Connections that spoke no HTTP', ['code']);
  const open = telemetry.gauge('torpor_gateway_tunnels_open', 'Upgraded connections that are open');
  let tunnels = 0;
  return {
    served({ plane, method, id, traceId, ending, tookMs, notes }) {
      exchanges.add(1, { plane, status: `${Math.floor(ending.status / 100)}xx`, outcome: ending.outcome });
      took.observe(tookMs, { plane });
      const line = {
        plane,
        method,
        requestId: id,
        traceId,
        ...ending,
        tookMs: Math.round(tookMs * 100) / 100,
        ...notes,
      };
      if (ending.status >= 500 || ending.outcome === 'broken') log.warn('exchange', line);
      else log.info('exchange', line);
    },
    broke({ plane, id, error }) {
      const stack = error instanceof Error ? error.stack : undefined;
      log.error('a bug ended an exchange', { plane, requestId: id, problem: explain(error), stack });
    },
    troubled(doing, error) {
      troubles.add(1, { doing });
      log.warn('background work failed', { doing, problem: explain(error), code: codeOf(error) });
    },
    unreadable(code) {
      unreadable.add(1, { code });
      log.debug('unreadable connection', { code });
    },
    tunnels(change) {
      tunnels += change;
      open.set(tunnels);
    },
  };
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Failure ? error.code : undefined;
}
