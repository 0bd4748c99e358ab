import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, expect, it, vi } from 'vitest';
import { forwardAtFreePort } from './at-free-port.ts';
import type { Forwarder } from './forwarder.ts';
import { cutter, QUERY, withLength } from './messages.ts';

/** A server at the resolver's address: what reached it, and what it says to each whole query. */
interface Resolver {
  readonly server: Server;
  readonly heard: Buffer[];
  connections: number;
}

let resolver: Resolver;
let forwarder: Forwarder;
let troubles: string[];
let client: Socket;

afterEach(async () => {
  client.destroy();
  await forwarder.close();
  resolver.server.close();
});

/** A client of a forwarder whose resolver says `say` to each query. */
async function open(say: (query: Buffer) => Buffer | undefined, idleMs?: number): Promise<Said> {
  resolver = { server: createServer(), heard: [], connections: 0 };
  resolver.server.on('connection', (socket) => {
    resolver.connections++;
    const queriesIn = cutter(QUERY);
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      resolver.heard.push(chunk);
      for (const query of queriesIn(chunk) ?? []) socket.write(say(query) ?? '');
    });
  });
  await once(resolver.server.listen(0, '127.0.0.1'), 'listening');
  const { port } = resolver.server.address() as AddressInfo; // it listens at a port, not at a path
  troubles = [];
  forwarder = await forwardAtFreePort({
    isInstance: () => true,
    onTrouble: (what) => troubles.push(what),
    upstream: [`127.0.0.1:${port}`],
    ...(idleMs !== undefined && { idleMs }),
  });
  client = connect({ port: forwarder.port, host: '127.0.0.1', noDelay: true });
  const said: Said = { bytes: Buffer.alloc(0), isOver: false };
  client.on('data', (chunk) => (said.bytes = Buffer.concat([said.bytes, chunk])));
  client.on('error', () => {});
  client.on('close', () => (said.isOver = true));
  await once(client, 'connect');
  return said;
}

interface Said {
  bytes: Buffer;
  isOver: boolean;
}

function queryOf(id: number): Buffer {
  return Buffer.from([id >> 8, id & 0xff, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0x61, 0, 0, 1, 0, 1]);
}

function answerTo(query: Buffer): Buffer {
  const answer = Buffer.concat([query, Buffer.from([42])]);
  answer.writeUInt8(answer.readUInt8(2) | 0x80, 2);
  return answer;
}

function honest(query: Buffer): Buffer {
  return withLength(answerTo(query));
}

async function untilOver(said: Said): Promise<void> {
  await vi.waitFor(() => expect(said.isOver).toBe(true));
}

it('carries two queries sent together, whatever pieces they come in', async () => {
  const said = await open(honest);
  const both = Buffer.concat([queryOf(1), queryOf(2)].map(withLength));
  const answers = Buffer.concat([queryOf(1), queryOf(2)].map(honest));
  for (const [from, to] of [
    [0, 1],
    [1, 9],
    [9, 24],
    [24, both.length],
  ]) {
    client.write(both.subarray(from, to));
    await vi.waitFor(() => expect(client.writableLength).toBe(0));
  }
  await vi.waitFor(() => expect(said.bytes).toEqual(answers));
  expect(Buffer.concat(resolver.heard)).toEqual(both);
  // The same connection is good for more, and an id that was answered may be asked with again.
  client.write(withLength(queryOf(1)));
  await vi.waitFor(() => expect(said.bytes).toEqual(Buffer.concat([answers, honest(queryOf(1))])));
  expect([resolver.connections, said.isOver, troubles]).toEqual([1, false, []]);
});

const notify = queryOf(3);
notify.writeUInt8(0x20, 2);
const questionless = queryOf(3);
questionless.writeUInt16BE(0, 4);

it.each([
  ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
  ['an HTTP request behind a length', withLength(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'))],
  ['a header that is no query, before its message is whole', withLength(notify).subarray(0, 14)],
  ['an answer', honest(queryOf(3))],
  ['a message without a question', withLength(questionless)],
  ['a message shorter than its header', withLength(queryOf(3).subarray(0, 11))],
  ['a message longer than queries are', withLength(Buffer.concat([queryOf(3), Buffer.alloc(4_096)]))],
])('ends at %s, of which nothing reaches the resolver', async (_, bytes) => {
  const said = await open(honest);
  client.write(bytes);
  await untilOver(said);
  expect([said.bytes.length, resolver.connections, troubles]).toEqual([0, 0, []]);
});

it('ends at an HTTP request after an honest query, of which nothing reaches the resolver', async () => {
  const said = await open(honest);
  client.write(withLength(queryOf(1)));
  await vi.waitFor(() => expect(said.bytes).toEqual(honest(queryOf(1))));
  client.write('GET / HTTP/1.1\r\n\r\n');
  await untilOver(said);
  expect(Buffer.concat(resolver.heard)).toEqual(withLength(queryOf(1)));
});

it.each([
  ['is no DNS', () => Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\nsecret')],
  ['is a query', withLength],
  ['has an id that nobody asked with', () => honest(queryOf(9))],
  ['comes twice', (query: Buffer) => Buffer.concat([honest(query), honest(query)])],
])('ends rather than carry an answer that %s', async (_, say) => {
  const said = await open(say);
  client.write(withLength(queryOf(1)));
  await untilOver(said);
  expect(said.bytes.length).toBe(0);
  expect(troubles).toEqual([expect.stringContaining('no answer to a question')]);
});

it.each([
  ['the same id twice at once', [1, 1]],
  ['more at once than it may', Array.from({ length: 65 }, (_, id) => id)],
])('ends when it is asked with %s', async (_, ids) => {
  const said = await open(() => undefined);
  client.write(Buffer.concat(ids.map((id) => withLength(queryOf(id)))));
  await untilOver(said);
  expect(resolver.heard).toEqual([]);
});

it('ends when nothing moves, and names the timer if the resolver owes an answer', async () => {
  const said = await open(() => undefined, 50);
  client.write(withLength(queryOf(1)));
  await untilOver(said);
  expect(troubles).toEqual([expect.stringContaining('the timer "name over TCP" ended after 50 ms')]);
});
