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
import { afterEach, describe, expect, it } from 'vitest';
import type { Guest } from './guest.ts';
import { tcpGuest } from './guest-tcp.ts';

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
  const guest = tcpGuest({ host: '127.0.0.1', port }, 'secret');
  open.push(() => guest.close());
  return guest;
}

function answerJson(stream: ServerHttp2Stream, value: unknown, status = 200): void {
  stream.respond({ ':status': status, 'content-type': 'application/json' });
  stream.end(JSON.stringify(value));
}

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

describe.each(['tunnel', 'tunnel that we have ended', 'answer'] as const)('a %s', (kind) => {
  async function opened(guest: Guest): Promise<Readable> {
    if (kind === 'answer') return (await guest.send({ method: 'PUT', path: '/', body: Readable.from(['x']) })).body;
    const tunnel = await guest.tunnel(80);
    if (kind !== 'tunnel') tunnel.end();
    return tunnel;
  }

  it.each([
    ['its connection breaks', (stream: ServerHttp2Stream) => stream.session?.destroy()],
    ['the guest resets it', (stream: ServerHttp2Stream) => stream.destroy(new Error('reset'))],
  ])('does not end as if it were whole when %s', async (_how, breakOff) => {
    const halfRead = Promise.withResolvers<void>();
    const { port } = await standIn((stream) => {
      stream.resume();
      stream.respond({ ':status': 200 });
      stream.write('half');
      halfRead.promise.then(() => breakOff(stream)).catch((error: Error) => stream.destroy(error));
    });
    const body = await opened(guestAt(port));
    body.once('data', () => halfRead.resolve());
    await expect(text(body)).rejects.toThrow(/broke off|Premature close|NGHTTP2_INTERNAL_ERROR/);
  });
});

it('does not end the room when it is closed in the moment of its connection', async () => {
  const { server, port } = await standIn((stream) => stream.respond({ ':status': 200 }, { endStream: true }));
  // The connection is told of a tick late: closing at any of the turns around it must throw at nobody (Vitest counts what does).
  for (let turns = 0; turns < 20; turns++) {
    const guest = guestAt(port);
    const called = guest.tunnel(80).catch((error: unknown) => error);
    await once(server, 'connection');
    for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => process.nextTick(resolve));
    guest.close();
    await called;
  }
  expect(server.listening).toBe(true);
});

it('opens another connection instead of waiting behind a hundred open tunnels', async () => {
  const { port, sessions } = await standIn((stream) => stream.respond({ ':status': 200 }));
  const guest = guestAt(port);
  await Promise.all(Array.from({ length: 101 }, () => guest.tunnel(80)));
  expect(sessions.size).toBe(2);
});
