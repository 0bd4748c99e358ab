import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { systemClock } from '@torpor/kernel';
import { expect, it } from 'vitest';
import { listening, open } from '../run-plane/raw-servers.ts';
import { hasRest, readAway, type RestLimits } from './rest-of-body.ts';

const PATIENT: RestLimits = { ms: 3_600_000, silentMs: 3_600_000, bytesMax: Infinity };
const HEAD = 'PUT / HTTP/1.1\r\nhost: x\r\n';

/** A request whose head has come, and its caller's end of the connection. */
async function begun(text: string): Promise<{ request: IncomingMessage; caller: Socket }> {
  const server = createServer();
  const caller = connect(await listening(server), '127.0.0.1').on('error', () => {});
  open.push(() => caller.destroy());
  caller.write(text);
  const [request] = (await once(server, 'request')) as [IncomingMessage];
  return { request, caller };
}

it.each([
  ['GET / HTTP/1.1\r\nhost: x\r\n\r\n', false],
  [`${HEAD}content-length: 0\r\n\r\n`, false],
  [`${HEAD}content-length: 9\r\n\r\n`, true],
  [`${HEAD}transfer-encoding: chunked\r\n\r\n`, true],
])('knows of %j whether more comes', async (head, more) => {
  const server = createServer();
  const said = new Promise<boolean>((resolve) => server.once('request', (request) => resolve(hasRest(request))));
  const caller = connect(await listening(server), '127.0.0.1');
  open.push(() => caller.destroy());
  caller.write(head);
  expect(await said).toBe(more);
});

it('reads a body to its end, whoever was reading before', async () => {
  const readers: readonly ((request: IncomingMessage) => unknown)[] = [
    () => {},
    (request) => request.on('data', () => {}),
    (request) => request.iterator({ destroyOnReturn: false }).next(),
  ];
  for (const read of readers) {
    const { request, caller } = await begun(`${HEAD}content-length: 5000000\r\n\r\n`);
    read(request);
    caller.write(Buffer.alloc(5_000_000));
    await readAway(request, systemClock, PATIENT);
    expect(request.complete).toBe(true);
  }
});

it.each([
  ['that is too large', { ...PATIENT, bytesMax: 1_000_000 }],
  ['that takes too long', { ...PATIENT, ms: 50 }],
  ['that stalls', { ...PATIENT, silentMs: 50 }],
])('gives up one %s', async (_what, limits) => {
  const { request, caller } = await begun(`${HEAD}content-length: 9000000\r\n\r\n`);
  caller.write(Buffer.alloc(8_000_000));
  await readAway(request, systemClock, limits);
  expect(request.complete).toBe(false);
});

it('waits for nobody who has gone', async () => {
  const { request, caller } = await begun(`${HEAD}content-length: 9\r\n\r\n`);
  caller.destroy();
  await readAway(request, systemClock, PATIENT);
  await readAway(request, systemClock, PATIENT);
  expect(request.destroyed).toBe(true);
});
