import { createServer } from 'node:http';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { explain } from '@torpor/kernel';
import type { Telemetry } from './telemetry.ts';

/** Each look wakes the room: at 1 ms a room that had nothing to do used 1.5 % of a processor for it. */
const LOOK_EVERY_MS = 20;

export interface Observation {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Serves `/healthz` (200 or 503 with what `health` says) and `/metrics` for whoever runs the machine; give it a loopback address.
 * Adds the room's event-loop delay (ms; p50, p99 and max since the last look) and memory.
 */
export async function serveObserve(
  at: { host: string; port: number },
  telemetry: Telemetry,
  health: () => Promise<{ ok: boolean } & Record<string, unknown>>,
): Promise<Observation> {
  const delay = monitorEventLoopDelay({ resolution: LOOK_EVERY_MS });
  delay.enable();
  const loop = telemetry.gauge('torpor_event_loop_delay_ms', 'Event-loop delay since the last look, milliseconds', [
    'quantile',
  ]);
  const memory = telemetry.gauge('torpor_process_resident_bytes', 'Resident memory of this process, bytes');
  const server = createServer((request, response) => {
    const answer = (status: number, type: string, body: string) =>
      response.writeHead(status, { 'content-type': type }).end(body);
    const failed = (error: unknown) => answer(500, 'text/plain', `${explain(error)}\n`);
    if (request.url === '/healthz') {
      health().then((state) => answer(state.ok ? 200 : 503, 'application/json', `${JSON.stringify(state)}\n`), failed);
    } else if (request.url === '/metrics') {
      // The time between looks is part of every reading; what is left is the delay.
      for (const [quantile, ns] of [
        ['0.5', delay.percentile(50)],
        ['0.99', delay.percentile(99)],
        ['1', delay.max],
      ] as const) {
        loop.set(Math.max(0, ns / 1e6 - LOOK_EVERY_MS), { quantile });
      }
      delay.reset();
      memory.set(process.memoryUsage().rss);
      telemetry.metrics().then((text) => answer(200, 'text/plain; version=0.0.4', text), failed);
    } else answer(404, 'text/plain', 'expected /healthz or /metrics\n');
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(at.port, at.host, resolve));
  const address = server.address();
  return {
    port: typeof address === 'object' && address ? address.port : at.port,
    close: async () => {
      delay.disable();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
