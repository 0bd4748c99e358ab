import { expect, it } from 'vitest';
import { serveObserve } from './observe.ts';
import { openTelemetry, silentTelemetry } from './telemetry.ts';
import { freshTraceparent } from './spans.ts';

it('writes one line of JSON per event, with the room and the attributes', () => {
  const lines: string[] = [];
  const telemetry = openTelemetry({ room: 'gateway', version: '1', write: (line) => lines.push(line) });
  telemetry.log.info('sandbox woken', { instance: 'iabc', tookMs: 1.5 });
  telemetry.log.debug('not shown', {});
  expect(lines.map((line) => JSON.parse(line))).toEqual([
    expect.objectContaining({ room: 'gateway', event: 'sandbox woken', instance: 'iabc', tookMs: 1.5 }),
  ]);
});

it('keeps the trace of the caller and makes one where there is none', async () => {
  const { span } = silentTelemetry();
  const caller = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
  await span('work', { traceparent: caller }, async ({ traceparent, traceId }) => {
    expect(traceId).toBe('a'.repeat(32));
    expect(traceparent).toMatch(/^00-a{32}-[0-9a-f]{16}-01$/);
    expect(traceparent).not.toBe(caller);
  });
  expect(freshTraceparent('nonsense')).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
});

it('serves health and metrics, and 503 when the room is not well', async () => {
  const telemetry = silentTelemetry();
  telemetry.counter('torpor_wakes_total', 'Wakes', ['tier']).add(2, { tier: 'paused' });
  telemetry.counter('torpor_wakes_total', 'Wakes', ['tier']).add(1, { tier: 'paused' });
  let ok = true;
  const observed = await serveObserve({ host: '127.0.0.1', port: 0 }, telemetry, async () => ({ ok, bus: ok }));
  const at = `http://127.0.0.1:${observed.port}`;
  expect((await fetch(`${at}/healthz`)).status).toBe(200);
  ok = false;
  expect((await fetch(`${at}/healthz`)).status).toBe(503);
  const text = await (await fetch(`${at}/metrics`)).text();
  expect(text).toContain('torpor_wakes_total{tier="paused"} 3');
  expect(text).toContain('torpor_event_loop_delay_ms{quantile="0.99"}');
  await observed.close();
});

it('puts the trace id of the span into every line under it, and none into others', async () => {
  const lines: string[] = [];
  const { log, span } = openTelemetry({ room: 'gateway', version: '1', write: (line) => lines.push(line) });
  await span('work', { traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01` }, async () => {
    await Promise.resolve();
    log.info('under it');
    log.info('says its own', { traceId: 'own' });
  });
  log.info('outside');
  expect(lines.map((line) => JSON.parse(line).traceId)).toEqual(['a'.repeat(32), 'own', undefined]);
});
