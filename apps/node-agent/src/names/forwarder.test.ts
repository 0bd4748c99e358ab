import { createSocket, type Socket } from 'node:dgram';
import { connect, createServer } from 'node:net';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { forwardAtFreePort } from './at-free-port.ts';
import { refusal, type Forwarder } from './forwarder.ts';
import { withLength } from './messages.ts';

/** A resolver that answers each query by itself with the answer bit set and one byte more. */
async function openResolver(answers: boolean): Promise<{ socket: Socket; at: string; asked: number }> {
  const resolver = { socket: createSocket('udp4'), at: '', asked: 0 };
  await new Promise<void>((resolve) => resolver.socket.bind(0, '127.0.0.1', resolve));
  resolver.at = `127.0.0.1:${resolver.socket.address().port}`;
  resolver.socket.on('message', (query, from) => {
    resolver.asked++;
    const answer = Buffer.concat([query, Buffer.from([42])]);
    answer[2] = (answer[2] ?? 0) | 0x80;
    if (answers) resolver.socket.send(answer, from.port, from.address);
  });
  return resolver;
}

const query = Buffer.from([0xab, 0xcd, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0x61, 0, 0, 1, 0, 1]);
let good: Awaited<ReturnType<typeof openResolver>>;
let mute: Awaited<ReturnType<typeof openResolver>>;
let forwarder: Forwarder | undefined;

beforeEach(async () => {
  good = await openResolver(true);
  mute = await openResolver(false);
});
afterEach(async () => {
  await forwarder?.close();
  forwarder = undefined;
  good.socket.close();
  mute.socket.close();
});

async function open(upstream: string[], isInstance = () => true): Promise<Forwarder> {
  // Short only where a mute one is waited for, so that a busy host does not make the good one late.
  const answerMs = upstream.includes(mute.at) ? 250 : 2_000;
  forwarder = await forwardAtFreePort({ isInstance, onTrouble: () => {}, upstream, answerMs });
  return forwarder;
}

function ask(port: number, waitMs = 2_000, socket = createSocket('udp4')): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const end = (answer?: Buffer) => {
      clearTimeout(bell);
      socket.close();
      resolve(answer);
    };
    const bell = setTimeout(() => end(), waitMs);
    socket.once('message', (answer) => end(answer));
    socket.send(query, port, '127.0.0.1');
  });
}

it("carries a question to the host's resolver and the answer back", async () => {
  const { port } = await open([good.at]);
  expect((await ask(port))?.at(-1)).toBe(42);
});

it('asks the next resolver when one is mute', async () => {
  const { port } = await open([mute.at, good.at]);
  expect((await ask(port))?.at(-1)).toBe(42);
  expect(mute.asked).toBe(1);
});

it('says SERVFAIL rather than nothing when no resolver answers', async () => {
  const { port } = await open([mute.at]);
  const answer = await ask(port);
  expect(answer).toEqual(refusal(query));
  expect((answer?.[3] ?? 0) & 0x0f).toBe(2);
});

it('is no resolver for anybody but instances', async () => {
  const { port } = await open([good.at], () => false);
  expect(await ask(port, 100)).toBeUndefined();
  expect(good.asked).toBe(0);
});

it('asks nothing that is no standard query', async () => {
  const { port } = await open([good.at]);
  const update = Buffer.from(query);
  update.writeUInt8(0x28, 2);
  const socket = createSocket('udp4');
  socket.send(update, port, '127.0.0.1');
  expect((await ask(port, 2_000, socket))?.at(-1)).toBe(42);
  expect(good.asked).toBe(1);
});

it('leaves others their names when one asks for ever what nobody answers', async () => {
  forwarder = await forwardAtFreePort({
    isInstance: () => true,
    onTrouble: () => {},
    upstream: [mute.at, good.at],
    answerMs: 1_000,
  });
  const { port } = forwarder;
  const greedy = createSocket('udp4');
  await new Promise<void>((resolve) => greedy.bind(0, '127.0.0.1', resolve));
  const turnedAway = new Promise<Buffer>((resolve) => greedy.once('message', resolve));
  for (let n = 0; n < 65; n++) greedy.send(query, port, '127.0.0.1');
  expect(await turnedAway).toEqual(refusal(query));
  const other = createSocket('udp4');
  await new Promise<void>((resolve) => other.bind(0, '127.0.0.2', resolve));
  expect((await ask(port, 3_000, other))?.at(-1)).toBe(42);
  greedy.close();
});

it('closes at once while it asks, and while somebody holds a connection open', async () => {
  let reached = 0;
  const silent = createServer(() => reached++); // takes connections and says nothing
  await new Promise<void>((resolve) => silent.listen(mute.socket.address().port, '127.0.0.1', resolve));
  const closing = await forwardAtFreePort({
    isInstance: () => true,
    onTrouble: () => {},
    upstream: [mute.at],
    answerMs: 60_000,
  });
  const held = connect(closing.port, '127.0.0.1');
  const ended = new Promise((resolve) => held.once('close', resolve));
  held.on('error', () => {}).write(withLength(query));
  const asked = ask(closing.port, 200);
  await vi.waitFor(() => expect([mute.asked, reached, held.readyState]).toEqual([1, 1, 'open']));
  await closing.close();
  await ended;
  expect(await asked).toBeUndefined();
  silent.close();
});
