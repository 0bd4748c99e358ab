/** For tests: servers that say what they are told, byte by byte, and break off where they are told to. */
import { once } from 'node:events';
import { createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { afterEach } from 'vitest';

/** What a test opens; closed after it, the last first. */
export const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close();
});

/** Answers the port. */
export async function listening(server: Server, port = 0): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).once('close', () => sockets.delete(socket));
  });
  await once(server.listen(port, '127.0.0.1'), 'listening');
  open.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('it listens on no port');
  return address.port;
}

/** A node that says `text` for every head, and never reads on. */
export function saying(text: string, then: (socket: Socket) => void = () => {}): Server {
  return createTcpServer((socket) => {
    socket.on('error', () => {}).once('data', () => socket.write(text, () => then(socket)));
  });
}

const HEADS = {
  sized: 'content-length: 900\r\n\r\nsome',
  chunked: 'transfer-encoding: chunked\r\n\r\n4\r\nsome\r\n',
  'ended by the close': '\r\nsome',
};

/** The beginning of an answer: its head, and `some` of its body. */
export function beginning(kind: keyof typeof HEADS): string {
  return `HTTP/1.1 200 OK\r\n${HEADS[kind]}`;
}
