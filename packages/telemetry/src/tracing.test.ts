import { createServer } from 'node:http';
import { expect, it } from 'vitest';
import { currentSpan } from './spans.ts';
import { openTracing } from './tracing.ts';

it('exports the spans of a trace that came from elsewhere, and goes on with it', async () => {
  const bodies: string[] = [];
  const collector = createServer((request, response) => {
    let body = '';
    request.setEncoding('latin1').on('data', (part: string) => {
      body += part;
    });
    request.once('end', () => {
      bodies.push(`${request.url} ${body}`);
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
    });
  });
  await new Promise<void>((done) => collector.listen(0, '127.0.0.1', done));
  const address = collector.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  const tracing = openTracing({ room: 'gateway', version: '0', otlpEndpoint: `http://127.0.0.1:${port}` });
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const seen = await tracing.span('carry', { traceparent: `00-${traceId}-b7ad6b7169203331-01` }, async (span) => ({
    traceparent: span.traceparent,
    isCurrent: currentSpan()?.traceparent === span.traceparent,
  }));
  await tracing.close();
  collector.close();
  expect(seen).toEqual({ traceparent: expect.stringMatching(`^00-${traceId}-[0-9a-f]{16}-01$`), isCurrent: true });
  expect(bodies).toEqual([expect.stringMatching(new RegExp(`^/v1/traces .*"traceId":"${traceId}".*"name":"carry"`))]);
});
