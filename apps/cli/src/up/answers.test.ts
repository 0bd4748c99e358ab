import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { natsGreets, postgresTakesClients, roomIsWell } from './answers.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function serving(on: (socket: Socket) => void): Promise<number> {
  const server = createServer(on);
  servers.push(server);
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  return typeof address === 'object' && address ? address.port : 0;
}

it('takes what a service says for what it is', async () => {
  const greeting = await serving((socket) => socket.end('INFO {}\r\n'));
  const other = await serving((socket) => socket.end('HTTP/1.1 400\r\n'));
  expect([await natsGreets(greeting), await natsGreets(other)]).toEqual([true, false]);
});

it('is not content with PostgreSQL while it refuses clients', async () => {
  const open = await serving((socket) => socket.once('data', () => socket.end('R\0\0\0\x08')));
  const starting = await serving((socket) => socket.once('data', () => socket.end('E\0\0\0\x08')));
  expect([await postgresTakesClients(open), await postgresTakesClients(starting)]).toEqual([true, false]);
});

it('rejects where nothing is said: a port may be open for a process that hangs', async () => {
  const closing = await serving((socket) => socket.end());
  await expect(natsGreets(closing)).rejects.toThrow('closed without an answer');
  await expect(roomIsWell(closing)).rejects.toThrow('fetch failed');
});
