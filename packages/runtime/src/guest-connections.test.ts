import { Failure } from '@torpor/kernel';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { afterEach, expect, it } from 'vitest';
import type { Guest } from './guest.ts';
import { tcpGuest } from './guest-tcp.ts';

/** How long a busy machine may take. */
const PATIENCE = { timeout: 10_000 };

const open: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close();
});

interface StandIn {
  readonly server: Server;
  readonly sockets: Set<Socket>;
  /** Connections that there ever were. */
  readonly opened: () => number;
  readonly port: number;
}

/** A guest's stand-in that answers each call by `answer`. */
async function standIn(answer: (request: IncomingMessage, response: ServerResponse) => void, port = 0) {
  const server = createServer(answer);
  const sockets = new Set<Socket>();
  let opened = 0;
  server.on('connection', (socket: Socket) => {
    opened++;
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const standIn: StandIn = { server, sockets, opened: () => opened, port: (server.address() as AddressInfo).port }; // it listens on TCP
  open.push(() => stop(standIn));
  return standIn;
}

async function stop({ server }: StandIn): Promise<void> {
  server.closeAllConnections();
  if (server.listening) await new Promise((resolve) => server.close(resolve));
}

/** One that says these bytes to whoever calls, whatever is asked. */
async function parrot(bytes: string): Promise<number> {
  const server = createTcpServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end(bytes));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push(() => server.close());
  return (server.address() as AddressInfo).port; // it listens on TCP
}

function guestAt(port: number): Guest {
  const guest = tcpGuest({ host: '127.0.0.1', port }, 'secret');
  open.push(() => guest.close());
  return guest;
}

function answerJson(response: ServerResponse, value: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

it('sends the token, and the one of the identity after the claim', async () => {
  const { port } = await standIn(({ headers }, response) => answerJson(response, { token: headers.authorization }));
  const guest = guestAt(port);
  expect(await guest.json('GET', '/v1/health')).toEqual({ token: 'Bearer secret' });
  await guest.claim({ name: 'a', hostname: 'a', env: {}, workdir: '/', user: 'root', token: 'new', generation: 1 });
  expect(await guest.json('GET', '/v1/health')).toEqual({ token: 'Bearer new' });
});

it('tells the guest’s errors in our words and keeps its own', async () => {
  const { port } = await standIn(({ url = '' }, response) => {
    const [, code = '', status] = url.split('/');
    answerJson(response, { error: { code, message: 'it says why' } }, Number(status));
  });
  const guest = guestAt(port);
  const table = [
    ['bad_request', 400, 'bad_request'],
    ['unauthorized', 401, 'unauthenticated'],
    ['not_found', 404, 'not_found'],
    ['exists', 409, 'conflict'],
    ['conflict', 409, 'conflict'],
    ['too_large', 413, 'too_large'],
    ['not_empty', 422, 'unprocessable'],
    ['failed', 422, 'unprocessable'],
    ['failed', 502, 'bad_gateway'],
    ['no_space', 507, 'no_space'],
    ['internal', 500, 'internal'],
  ] as const;
  for (const [guestCode, guestStatus, code] of table) {
    const expected = { code, message: 'it says why', details: { guestCode, guestStatus } };
    await expect(guest.json('GET', `/${guestCode}/${guestStatus}`)).rejects.toMatchObject(expected);
  }
});

it('carries calls one after another on one connection, and keeps only a few of many', async () => {
  const { port, opened, sockets } = await standIn((request, response) => {
    void text(request).then((body) => answerJson(response, { body }));
  });
  const guest = guestAt(port);
  for (let n = 0; n < 10; n++) expect(await guest.json('POST', '/echo', n)).toEqual({ body: String(n) });
  expect(opened()).toBe(1);
  const all = await Promise.all(Array.from({ length: 40 }, (_, n) => guest.json('POST', '/echo', n)));
  expect(all).toEqual(Array.from({ length: 40 }, (_, n) => ({ body: String(n) })));
  await expect.poll(() => sockets.size, PATIENCE).toBe(16);
});

it('sends bytes as they are', async () => {
  const { port } = await standIn((request, response) => {
    void buffer(request).then((bytes) => response.end(bytes));
  });
  const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, n) => n % 251));
  const answer = await guestAt(port).send({ method: 'PUT', path: '/v1/files/content', body: bytes });
  expect(bytes.equals(await buffer(answer.body))).toBe(true);
});

it('names the timer when no head comes in time, gives the call up and goes on', async () => {
  const { port, sockets } = await standIn(({ url }, response) => {
    if (url !== '/slow') answerJson(response, {});
  });
  const guest = guestAt(port);
  const error = await guest.json('GET', '/slow', undefined, { headMs: 50 }).catch((e: unknown) => e);
  expect(error).toMatchObject({
    code: 'deadline_exceeded',
    retryable: true,
    details: { timer: 'guest GET /slow', ms: 50 },
  });
  await expect.poll(() => sockets.size, PATIENCE).toBe(0);
  expect(await guest.json('GET', '/quick')).toEqual({});
});

it('gives the call up when the signal aborts, before and after the head', async () => {
  const left: Promise<unknown>[] = [];
  const { port } = await standIn(({ url }, response) => {
    left.push(once(response, 'close'));
    if (url === '/streaming') response.flushHeaders();
  });
  const guest = guestAt(port);
  const reason = new Failure('client_closed', 'the caller left');

  const silent = new AbortController();
  const asked = guest.send({ method: 'GET', path: '/silent', signal: silent.signal });
  silent.abort(reason);
  await expect(asked).rejects.toBe(reason);

  const streaming = new AbortController();
  const answer = await guest.send({ method: 'GET', path: '/streaming', signal: streaming.signal });
  streaming.abort(reason);
  await expect(text(answer.body)).rejects.toThrow('the caller left');
  await Promise.all(left);
});

it('hears nothing of a signal once its answer is whole: the connection is another call’s', async () => {
  const { port, opened } = await standIn(({ url }, response) => {
    if (url === '/first') answerJson(response, {});
    else setImmediate(() => answerJson(response, { second: true }));
  });
  const guest = guestAt(port);
  const caller = new AbortController();
  await guest.json('GET', '/first', undefined, { signal: caller.signal });
  const second = guest.json('GET', '/second');
  caller.abort(new Error('too late'));
  expect(await second).toEqual({ second: true });
  expect(opened()).toBe(1);
});

it('fails calls under way as retryable when the guest dies, and reaches its successor with the next', async () => {
  const first = await standIn(() => {});
  const guest = guestAt(first.port);
  const asked = guest.json('GET', '/v1/health').catch((e: unknown) => e);
  await expect.poll(() => first.sockets.size, PATIENCE).toBe(1);
  await stop(first);
  expect(await asked).toMatchObject({ code: 'unavailable', retryable: true });
  const refused = guest.json('GET', '/v1/health');
  await expect(refused).rejects.toMatchObject({
    code: 'unavailable',
    retryable: true,
    message: expect.stringMatching(/ECONNREFUSED/),
  });
  await standIn((_, response) => answerJson(response, { back: true }), first.port);
  expect(await guest.json('GET', '/v1/health')).toEqual({ back: true });
});

it('does not end the room when a connection breaks under a body that nobody reads', async () => {
  const { port, sockets } = await standIn((_, response) => response.write('half'));
  const answer = await guestAt(port).send({ method: 'GET', path: '/half' });
  for (const socket of sockets) socket.resetAndDestroy();
  await expect.poll(() => answer.body.destroyed, PATIENCE).toBe(true);
  await expect(text(answer.body)).rejects.toThrow(/premature|reset|closed/i);
});

it.each([
  [
    'a body that is cut short',
    'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf',
    /before its answer was whole|Premature/i,
  ],
  [
    'a body that is framed twice',
    'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n',
    /framed twice|Premature/i,
  ],
])('takes %s for no answer', async (_, bytes, message) => {
  const guest = guestAt(await parrot(bytes));
  const read = guest.send({ method: 'GET', path: '/' }).then((answer) => text(answer.body));
  await expect(read).rejects.toThrow(message);
});

it('takes what is no HTTP for no guest', async () => {
  const guest = guestAt(await parrot('SSH-2.0-dropbear\r\n\r\n'));
  await expect(guest.json('GET', '/')).rejects.toMatchObject({ code: 'unavailable' });
});

it('takes no broken connection for the end of an answer', async () => {
  const { port, sockets } = await standIn((_, { socket }) => socket?.write('HTTP/1.1 200 OK\r\n\r\nhalf'));
  const { body } = await guestAt(port).send({ method: 'GET', path: '/' });
  body.once('data', () => sockets.forEach((socket) => socket.resetAndDestroy()));
  await expect(text(body)).rejects.toThrow('ECONNRESET');
});

it('reads no further than whoever reads the body', async () => {
  let sent = 0;
  const { port } = await standIn((_, response) => {
    const piece = Buffer.alloc(64 * 1024);
    const pour = () => {
      while (response.write(piece)) sent += piece.length;
      sent += piece.length;
      response.once('drain', pour);
    };
    response.on('error', () => {});
    pour();
  });
  const answer = await guestAt(port).send({ method: 'GET', path: '/endless' });
  let before = -1;
  await expect
    .poll(() => {
      const still = sent === before;
      before = sent;
      return still && sent > 0;
    }, PATIENCE)
    .toBe(true);
  expect(sent).toBeLessThan(32 * 1024 * 1024); // what two sockets hold
  const asMuch = sent;
  answer.body.once('data', () => answer.body.resume());
  await expect.poll(() => sent, PATIENCE).toBeGreaterThan(asMuch + 1024 * 1024);
  answer.body.destroy();
});

it('gives up an answer that its reader destroys', async () => {
  const { port, sockets } = await standIn((_, response) => response.write('some'));
  const answer = await guestAt(port).send({ method: 'GET', path: '/' });
  expect(sockets.size).toBe(1);
  answer.body.destroy();
  await expect.poll(() => sockets.size, PATIENCE).toBe(0);
});

it('lets nobody write a second call into the first', async () => {
  let calls = 0;
  const { port } = await standIn((_, response) => {
    calls++;
    answerJson(response, {});
  });
  const guest = guestAt(port);
  for (const path of ['/a HTTP/1.1\r\n\r\nGET /b', '/a b', '/\u0100']) {
    await expect(guest.send({ method: 'GET', path })).rejects.toMatchObject({ code: 'bad_request' });
  }
  const headers = { 'content-type': 'a\r\nauthorization: Bearer b' };
  await expect(guest.send({ method: 'GET', path: '/', headers })).rejects.toMatchObject({ code: 'bad_request' });
  await guest.json('GET', '/only');
  expect(calls).toBe(1);
});

it('keeps the framing to itself', async () => {
  const { port } = await standIn((request, response) => {
    void text(request).then((body) => answerJson(response, { length: request.headers['content-length'], body }));
  });
  const answer = await guestAt(port).send({
    method: 'POST',
    path: '/',
    body: 'four',
    headers: { 'content-length': '2', 'transfer-encoding': 'chunked', connection: 'close' },
  });
  expect(JSON.parse(await text(answer.body))).toEqual({ length: '4', body: 'four' });
});

it('calls nobody once it is closed', async () => {
  const { port, opened } = await standIn((_, response) => answerJson(response, {}));
  const guest = guestAt(port);
  const asked = guest.json('GET', '/').catch((error: unknown) => error);
  guest.close();
  expect(await asked).toMatchObject({ code: 'unavailable', retryable: true });
  await expect(guest.json('GET', '/')).rejects.toMatchObject({ code: 'unavailable' });
  expect(opened()).toBeLessThan(2);
});
