import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { systemClock } from '@torpor/kernel';
import { afterEach, expect, it } from 'vitest';
import { answerHalfClosed } from './half-closed.ts';

const server = createServer();
answerHalfClosed(server, systemClock);

afterEach(() => {
  server.closeAllConnections();
  server.close();
  server.removeAllListeners('listening');
});

/** One whole request, and the answer that is to be given to it. */
async function ask(version = '1.1') {
  if (!server.listening) await once(server.listen(0, '127.0.0.1'), 'listening');
  const socket = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true });
  const request = once(server, 'request');
  socket.write(`GET / HTTP/${version}\r\nhost: a\r\n\r\n`);
  const [, response] = (await request) as [unknown, ServerResponse];
  const halfClosed = once(response.socket ?? server, 'end');
  return { socket, response, halfClosed };
}

it.each(['1.0', '1.1'])('answers HTTP/%s whoever has closed its half after the whole request', async (version) => {
  const { socket, response, halfClosed } = await ask(version);
  socket.end();
  await halfClosed;
  response.end('the answer');
  const heard = await text(socket);
  expect(heard).toMatch(/HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\n[^]*the answer/);
  expect(heard.startsWith('HTTP/1.1 102 ')).toBe(version === '1.1');
});

it('learns of a caller that is gone though nothing was answered yet', async () => {
  const { socket, response } = await ask();
  socket.destroy();
  await once(response, 'close');
  expect(response.writableFinished).toBe(false);
});

it('takes a caller that hangs up in the middle of its answer to be gone', async () => {
  const { socket, response } = await ask();
  response.write('the beginning');
  await once(socket, 'data');
  socket.end();
  await once(response, 'close');
  expect(response.writableFinished).toBe(false);
});
