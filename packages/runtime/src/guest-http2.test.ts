import { Failure } from '@torpor/kernel';
import { once } from 'node:events';
import {
  createServer as createHttpServer,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import {
  createServer,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type IncomingHttpHeaders,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { pipeline, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, expect, it } from 'vitest';
import { http2Guest } from './guest-http2.ts';
import type { Guest } from './guest.ts';

type Answer = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

interface StandIn {
  readonly server: Http2Server;
  readonly sessions: Set<ServerHttp2Session>;
  readonly port: number;
}

const open: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close();
});

/** A guest's stand-in that answers every stream by `answer`. */
async function standIn(answer: Answer, port = 0): Promise<StandIn> {
  const server = createServer();
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('error', () => {});
    session.once('close', () => sessions.delete(session));
  });
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    answer(stream, headers);
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  open.push(() => stop({ server, sessions }));
  return { server, sessions, port: (server.address() as AddressInfo).port }; // listening on TCP, so it is no string
}

async function stop({ server, sessions }: Pick<StandIn, 'server' | 'sessions'>): Promise<void> {
  for (const session of sessions) session.destroy();
  if (server.listening) await new Promise((resolve) => server.close(resolve));
}

function guestAt(port: number): Guest {
  const guest = http2Guest({ host: '127.0.0.1', port }, 'secret');
  open.push(() => guest.close());
  return guest;
}

function answerJson(stream: ServerHttp2Stream, value: unknown, status = 200): void {
  stream.respond({ ':status': status, 'content-type': 'application/json' });
  stream.end(JSON.stringify(value));
}

it('sends the token, and the one of the identity after the claim', async () => {
  const { port } = await standIn((stream, headers) => answerJson(stream, { token: headers.authorization }));
  const guest = guestAt(port);
  expect(await guest.json('GET', '/v1/health')).toEqual({ token: 'Bearer secret' });
  await guest.claim({ name: 'a', hostname: 'a', env: {}, workdir: '/', user: 'root', token: 'new', generation: 1 });
  expect(await guest.json('GET', '/v1/health')).toEqual({ token: 'Bearer new' });
});

it('tells the guest’s errors in our words and keeps its own', async () => {
  const { port } = await standIn((stream, headers) => {
    const [, code = '', status] = (headers[':path'] ?? '').split('/');
    answerJson(stream, { error: { code, message: 'it says why' } }, Number(status));
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

it('names the timer when no head comes in time, closes the stream and keeps the connection', async () => {
  const closed = Promise.withResolvers<number>();
  const { port, sessions } = await standIn((stream, headers) => {
    if (headers[':path'] === '/slow') stream.once('close', () => closed.resolve(stream.rstCode));
    else answerJson(stream, {});
  });
  const guest = guestAt(port);
  const error = await guest.json('GET', '/slow', undefined, { headMs: 50 }).catch((e: unknown) => e);
  expect(error).toMatchObject({
    code: 'deadline_exceeded',
    retryable: true,
    details: { timer: 'guest GET /slow', ms: 50 },
  });
  expect(await closed.promise).toBe(2);
  await guest.json('GET', '/quick');
  expect(sessions.size).toBe(1);
});

it('closes the stream when the signal aborts, before and after the head', async () => {
  const closed: Promise<void>[] = [];
  const { port } = await standIn((stream, headers) => {
    closed.push(new Promise((resolve) => stream.once('close', resolve)));
    if (headers[':path'] === '/streaming') stream.respond({ ':status': 200 });
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
  await Promise.all(closed);
});

it('fails calls under way as retryable when the guest dies, and reaches its successor with the next', async () => {
  const first = await standIn(() => {});
  const guest = guestAt(first.port);
  const asked = guest.json('GET', '/v1/health').catch((e: unknown) => e);
  await expect.poll(() => first.sessions.size).toBe(1);
  await stop(first);
  expect(await asked).toMatchObject({ code: 'unavailable', retryable: true });
  const refused = guest.json('GET', '/v1/health');
  await expect(refused).rejects.toMatchObject({
    code: 'unavailable',
    retryable: true,
    message: expect.stringMatching(/ECONNREFUSED/),
  });
  await standIn((stream) => answerJson(stream, { back: true }), first.port);
  expect(await guest.json('GET', '/v1/health')).toEqual({ back: true });
});

it('does not end the room when a connection breaks under a body that nobody reads', async () => {
  const { port, sessions } = await standIn((stream) => {
    stream.respond({ ':status': 200 });
    stream.write('half');
  });
  const guest = guestAt(port);
  const answer = await guest.send({ method: 'GET', path: '/half' });
  for (const session of sessions) session.destroy(undefined, 2);
  await once(answer.body, 'close');
  await expect(text(answer.body)).rejects.toThrow(/premature|reset|closed/i);
});

it('carries bulk on another connection than small calls', async () => {
  const { port, sessions } = await standIn((stream) => answerJson(stream, {}));
  const guest = guestAt(port);
  await guest.json('GET', '/small');
  const answer = await guest.send({ method: 'PUT', path: '/big', body: Buffer.alloc(10), bulk: true });
  await text(answer.body);
  await guest.json('GET', '/small');
  expect(sessions.size).toBe(2);
});

it('opens another connection instead of waiting behind a hundred long streams', async () => {
  const { port, sessions } = await standIn((stream, headers) => {
    if (headers[':path'] === '/long') stream.respond({ ':status': 200 });
    else answerJson(stream, {});
  });
  const guest = guestAt(port);
  await Promise.all(Array.from({ length: 100 }, () => guest.send({ method: 'GET', path: '/long' })));
  await guest.json('GET', '/small');
  expect(sessions.size).toBe(2);
});

it('pulls no more of a body than the guest takes', async () => {
  const { port } = await standIn((stream) => void stream.pause());
  const guest = guestAt(port);
  let pulled = 0;
  const endless = new Readable({
    read() {
      pulled += 65_536;
      this.push(Buffer.alloc(65_536));
    },
  });
  const caller = new AbortController();
  const asked = guest
    .send({ method: 'PUT', path: '/big', body: endless, signal: caller.signal, bulk: true })
    .catch(() => {});
  let before = -1;
  await expect
    .poll(() => {
      const still = pulled === before;
      before = pulled;
      return still && pulled > 0;
    })
    .toBe(true);
  expect(pulled).toBeLessThan(4 * 1024 * 1024);
  caller.abort(new Error('enough'));
  await asked;
  endless.destroy();
});

it('does not pass half a body off as a whole one', async () => {
  const ends: Record<string, string> = {};
  const { port } = await standIn((stream, headers) => {
    const path = headers[':path'] ?? '';
    stream.resume();
    stream.once('end', () => (ends[path] ??= stream.aborted ? 'cut' : 'whole'));
    stream.once('aborted', () => (ends[path] ??= 'cut'));
  });
  const guest = guestAt(port);
  const caller = new AbortController();
  const bodies = Array.from({ length: 3 }, () => new Readable({ read() {} }));
  for (const body of bodies) body.push('half');
  const [broken, late, left] = bodies;
  const asked = [
    guest.send({ method: 'PUT', path: '/broken', ...(broken ? { body: broken } : {}) }),
    guest.send({ method: 'PUT', path: '/late', headMs: 100, ...(late ? { body: late } : {}) }),
    guest.send({ method: 'PUT', path: '/left', signal: caller.signal, ...(left ? { body: left } : {}) }),
  ];
  const outcomes = Promise.allSettled(asked);
  await expect.poll(() => bodies.every((body) => body.readableLength === 0)).toBe(true);
  broken?.destroy();
  caller.abort(new Error('the caller left'));
  expect((await outcomes).map((outcome) => outcome.status)).toEqual(['rejected', 'rejected', 'rejected']);
  await expect.poll(() => ends).toEqual({ '/broken': 'cut', '/late': 'cut', '/left': 'cut' });
});

it('tunnels with each side ended by itself', async () => {
  const { port } = await standIn((stream, headers) => {
    if (headers[':path'] !== '/v1/tunnel?port=80')
      return answerJson(stream, { error: { code: 'failed', message: 'nothing listens' } }, 502);
    stream.respond({ ':status': 200 });
    stream.write('banner ');
    void text(stream).then((heard) => stream.end(`heard ${heard}`));
  });
  const guest = guestAt(port);
  const tunnel = await guest.tunnel(80);
  const heard = text(tunnel);
  tunnel.write('one ');
  tunnel.end('two');
  expect(await heard).toBe('banner heard one two');

  await expect(guest.tunnel(81)).rejects.toMatchObject({ code: 'bad_gateway', message: 'nothing listens' });
});

it('tunnels a request with a body as it was written, text and bytes together', async () => {
  const { port } = await standIn((stream) => {
    stream.respond({ ':status': 200 });
    let said = '';
    stream.on('data', (chunk: Buffer) => {
      said += chunk.toString('latin1');
      if (said.endsWith('BODY'))
        stream.end(`HTTP/1.1 200 OK\r\ncontent-length: ${said.length}\r\nconnection: close\r\n\r\n${said}`);
    });
  });
  const guest = guestAt(port);
  // The body must come off a socket: that is how head and body come to be queued together.
  const carry = async (outside: IncomingMessage, answer: ServerResponse) => {
    const tunnel = await guest.tunnel(3000);
    const headers = ['host', 'x', 'content-length', '4', 'connection', 'close'];
    const inside = httpRequest({ createConnection: () => tunnel, method: 'PUT', path: '/path', headers });
    inside.once('response', (said) => pipeline(said, answer, () => {}));
    inside.once('error', (error) => answer.destroy(error));
    pipeline(outside, inside, () => {});
  };
  const door = createHttpServer((outside, answer) => {
    carry(outside, answer).catch((error: Error) => answer.destroy(error));
  }).listen(0, '127.0.0.1');
  open.push(() => door.close());
  await once(door, 'listening');
  const url = `http://127.0.0.1:${(door.address() as AddressInfo).port}/`; // listening on TCP, so it is no string
  for (let turn = 0; turn < 10; turn++) {
    const said = await (await fetch(url, { method: 'PUT', body: 'BODY' })).text();
    expect(said).toBe('PUT /path HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nconnection: close\r\n\r\nBODY');
  }
});

it('keeps our side of a tunnel open when the other has ended', async () => {
  const heard = Promise.withResolvers<string>();
  const { port } = await standIn((stream) => {
    stream.respond({ ':status': 200 });
    stream.end('bye');
    void text(stream).then(heard.resolve);
  });
  const tunnel = await guestAt(port).tunnel(80);
  expect(await text(tunnel)).toBe('bye');
  tunnel.end('still here');
  expect(await heard.promise).toBe('still here');
});

it('does not end the room when it is closed in the moment of its connection', async () => {
  const { server, port } = await standIn((stream) => stream.respond({ ':status': 200 }, { endStream: true }));
  // The connection is told of a tick late: closing at any of the turns around it must throw at nobody (Vitest counts what does).
  for (let turns = 0; turns < 20; turns++) {
    const guest = guestAt(port);
    const called = guest.json('GET', '/v1/health').catch((error: unknown) => error);
    await once(server, 'connection');
    for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => process.nextTick(resolve));
    guest.close();
    await called;
  }
  expect(server.listening).toBe(true);
});
