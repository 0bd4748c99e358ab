import { request as httpRequest, createServer, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { NodeId } from '@torpor/contracts';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { hearOf, portOf, rehearse, type Rehearsal } from '../rehearsal.ts';

let stage: Rehearsal;
beforeAll(async () => {
  stage = await rehearse({ limits: { bodyIdleMs: 2_000, headMs: 2_000, reachMs: 2_000, lingerMs: 300 } });
  await stage.plant('box');
});
afterAll(() => stage.close());
beforeEach(() => {
  stage.seen.length = 0;
  stage.answer = (_request, response) => response.end('from the node');
});

const NOT_HERE = { 'x-torpor-code': 'misdirected' };

/** Fetch normalises paths; this does not. */
function raw(path: string, options: { method?: string; headers?: Record<string, string | string[]> } = {}) {
  const request = httpRequest({
    host: '127.0.0.1',
    port: stage.gateway.port,
    path,
    method: options.method ?? 'GET',
    headers: { 'x-blaxel-authorization': `Bearer ${stage.apiKey}`, ...options.headers },
  });
  const answered = once(request, 'response').then(([answer]: IncomingMessage[]) => {
    if (!answer) throw new Error('no answer');
    return answer;
  });
  return { request, answered };
}

async function textOf(answer: AsyncIterable<unknown>): Promise<string> {
  let text = '';
  for await (const chunk of answer) text += String(chunk);
  return text;
}

function speak(text: string): { socket: Socket; said: () => string; closed: Promise<unknown> } {
  const socket = connect(stage.gateway.port, '127.0.0.1');
  let said = '';
  socket.on('data', (bytes: Buffer) => (said += bytes.toString())).on('error', () => undefined);
  socket.write(text);
  return { socket, said: () => said, closed: once(socket, 'close') };
}

describe('what travels on', () => {
  it.each([
    ['/main/sandboxes/box/filesystem/%2Ftmp%2Fa.txt', '/blaxel/filesystem/%2Ftmp%2Fa.txt'],
    ['/main/sandboxes/box/filesystem//tmp//b', '/blaxel/filesystem//tmp//b'],
    ['/main/sandboxes/box/filesystem/../../../etc', '/blaxel/filesystem/../../../etc'],
    ['/main/sandboxes/box/port/3000', '/port/3000/'],
    ['/main/sandboxes/box/port/3000//x%2f%2E%2e/?a=%2F&&b', '/port/3000//x%2f%2E%2e/?a=%2F&&b'],
    ['/main/sandboxes/box/-/v1/health?x=1', '/guest/v1/health?x=1'],
  ])('%s arrives byte by byte', async (path, arrives) => {
    const { request, answered } = raw(path);
    request.end();
    await textOf(await answered);
    expect(stage.seen[0]?.url.replace(/^\/d\/\w+\/1/, '')).toBe(arrives);
  });

  it('keeps our credentials from the program inside, and leaves it its own', async () => {
    const own = await stage.call('/main/sandboxes/box/port/80/', {
      headers: {
        authorization: 'Bearer of-the-program',
        cookie: 'a=1; bl_preview_token=secret; b=2',
        'x-torpor-data-key': 'forged',
      },
    });
    expect(own.status).toBe(200);
    const ours = await stage.call('/main/sandboxes/box/port/80/', {
      key: '',
      headers: { authorization: `Bearer ${stage.apiKey}`, 'x-blaxel-subject-id': 'forged' },
    });
    expect(ours.status).toBe(200);
    expect(stage.seen[0]?.headers).toMatchObject({
      authorization: 'Bearer of-the-program',
      cookie: 'a=1; b=2',
      'x-torpor-data-key': 'the data key',
      traceparent: expect.stringMatching(/^00-[0-9a-f]{32}-[0-9a-f]{16}-0\d$/),
      'x-request-id': expect.stringMatching(/^r/),
    });
    expect(stage.seen[1]?.headers.authorization).toBeUndefined();
    for (const { headers } of stage.seen) {
      expect(headers['x-blaxel-authorization']).toBeUndefined();
      expect(headers['x-blaxel-subject-id']).toBeUndefined();
      expect(JSON.stringify(headers)).not.toContain(stage.apiKey);
    }
  });

  it('passes over an expectation that it does not know', async () => {
    const { request, answered } = raw('/main/sandboxes/box/x', { headers: { expect: 'the-unexpected' } });
    request.end();
    const answer = await answered;
    expect([answer.statusCode, await textOf(answer)]).toEqual([200, 'from the node']);
    expect(stage.seen[0]?.headers['expect']).toBeUndefined();
  });

  it('passes on Server-Timing, and gives the caller the request id', async () => {
    stage.answer = (_request, response) => {
      response.setHeader('server-timing', 'wake;desc="paused";dur=1.8');
      response.end('x');
    };
    const answer = await stage.call('/main/sandboxes/box/process', { headers: { 'x-request-id': 'my-request-1' } });
    expect(answer.headers.get('server-timing')).toBe('wake;desc="paused";dur=1.8');
    expect(answer.headers.get('x-request-id')).toBe('my-request-1');
    expect(stage.seen[0]?.headers['x-request-id']).toBe('my-request-1');
  });

  it('carries bodies of every kind whole', async () => {
    stage.answer = (request, response) => request.pipe(response);
    for (const size of [0, 1, 1_000, 48 * 1024, 48 * 1024 + 1, 7_000_000]) {
      const body = Buffer.alloc(size, 'abcdefg');
      const answer = await stage.call('/main/sandboxes/box/x', { method: 'PUT', body });
      const back = Buffer.from(await answer.arrayBuffer());
      expect([size, answer.status, back.length, back.equals(body) ? '' : back.toString('utf8', 0, 300)]).toEqual([
        size,
        200,
        size,
        '',
      ]);
    }
    const { request, answered } = raw('/main/sandboxes/box/x', { method: 'POST' });
    request.write('chunk one, ');
    setImmediate(() => request.end('chunk two'));
    expect(await textOf(await answered)).toBe('chunk one, chunk two');
  });

  it('frames every body itself: a caller who calls its length a matter of one hop smuggles no second request in', async () => {
    stage.answer = (request, response) => request.pipe(response);
    const body = `GET /d/stolen/1/guest/v1/processes HTTP/1.1\r\nhost: x\r\n\r\n`;
    const caller = speak(
      `POST /main/sandboxes/box/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${stage.apiKey}\r\n` +
        `connection: close, content-length\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await caller.closed;
    expect(caller.said()).toMatch(/^HTTP\/1\.1 200 /);
    expect(caller.said()).toContain(body);
    expect((await stage.call('/main/sandboxes/box/y')).status).toBe(200);
    expect(stage.seen.map(({ url }) => url.replace(/^\/d\/\w+\/1/, ''))).toEqual(['/blaxel/x', '/blaxel/y']);
  });

  it('takes a 421 of the program inside for an answer, and asks it once', async () => {
    stage.answer = (_request, response) => {
      response.writeHead(421, { 'content-type': 'text/plain' });
      response.end('not my host');
    };
    // Not fetch, which asks again by itself.
    const { request, answered } = raw('/main/sandboxes/box/port/80/', { method: 'POST' });
    request.end('x');
    const answer = await answered;
    expect([answer.statusCode, await textOf(answer)]).toEqual([421, 'not my host']);
    expect(stage.seen).toHaveLength(1);
  });

  it('gives the caller the head of a stream and each piece as it comes', async () => {
    let go: (() => void) | undefined;
    stage.answer = async (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      response.flushHeaders();
      await new Promise<void>((resolve) => (go = resolve));
      response.write('{"first":1}\n');
      await new Promise<void>((resolve) => (go = resolve));
      response.end('{"last":1}\n');
    };
    const answer = await stage.call('/main/sandboxes/box/process', { method: 'POST', body: '{}' });
    const reader = (answer.body ?? new ReadableStream<Uint8Array>()).getReader();
    const piece = async () => Buffer.from((await reader.read()).value ?? '').toString();
    go?.();
    expect(await piece()).toBe('{"first":1}\n');
    go?.();
    expect(await piece()).toBe('{"last":1}\n');
  });

  it('does not let the node run ahead of a caller that reads slowly', async () => {
    let written = 0;
    stage.answer = (_request, response) => {
      const chunk = Buffer.alloc(64 * 1024);
      const more = () => {
        while (written < 256 * 1024 * 1024) {
          written += chunk.length;
          if (!response.write(chunk)) return void response.once('drain', more);
        }
        response.end();
      };
      more();
    };
    const { request, answered } = raw('/main/sandboxes/box/big');
    request.end();
    const answer = await answered;
    answer.pause();
    let before = -1;
    await vi.waitFor(
      () => {
        const stands = before === written;
        before = written;
        expect(stands).toBe(true);
      },
      { interval: 200, timeout: 5_000 },
    );
    expect(written).toBeLessThan(64 * 1024 * 1024);
    answer.destroy();
  });
});

describe('when somebody goes', () => {
  it('tells the node at once that the caller has left', async () => {
    const nodeSawEnd = new Promise<void>((resolve) => {
      stage.answer = (_request, response) => {
        response.write('stream');
        response.once('close', resolve);
      };
    });
    const { request, answered } = raw('/main/sandboxes/box/process/x/logs/stream');
    request.end();
    await once(await answered, 'data');
    request.destroy();
    await expect(nodeSawEnd).resolves.toBeUndefined();
  });

  it('tells the node too when the caller leaves before the answer', async () => {
    let arrived: (() => void) | undefined;
    const asked = new Promise<void>((resolve) => (arrived = resolve));
    const nodeSawEnd = new Promise<void>((resolve) => {
      stage.answer = (_request, response) => {
        arrived?.();
        response.once('close', resolve);
      };
    });
    const { request, answered } = raw('/main/sandboxes/box/process');
    answered.catch(() => undefined);
    request.on('error', () => undefined).end();
    await asked;
    request.destroy();
    await expect(nodeSawEnd).resolves.toBeUndefined();
  });

  it('cuts the caller’s stream when the node dies within it', async () => {
    stage.answer = (_request, response) => {
      response.write('first');
      setImmediate(() => response.socket?.destroy());
    };
    const { request, answered } = raw('/main/sandboxes/box/logs');
    request.end();
    await expect(textOf(await answered)).rejects.toThrow('aborted');
  });

  it('asks again when a kept connection ends under a safe request, and says so under another', async () => {
    let deaths = 0;
    stage.answer = (request, response) => {
      if (deaths++ === 0 || request.method === 'POST') request.socket.destroy();
      else response.end('second time');
    };
    expect(await (await stage.call('/main/sandboxes/box/a')).text()).toBe('second time');
    const post = await stage.call('/main/sandboxes/box/process', { method: 'POST', body: '{}' });
    expect(post.status).toBe(502);
    expect(await post.json()).toMatchObject({ error: { code: 'WORKLOAD_UNAVAILABLE', retryable: true } });
  });
});

describe('when the way is out of date', () => {
  it('reads PostgreSQL after a 421 and tries once more, with the body', async () => {
    let misdirected = 0;
    stage.answer = (request, response) => {
      if (misdirected++ === 0) return void response.writeHead(421, NOT_HERE).end('{"generation":2}');
      request.pipe(response);
    };
    const answer = await stage.call('/main/sandboxes/box/x', { method: 'POST', body: 'the body' });
    expect([answer.status, await answer.text()]).toEqual([200, 'the body']);
    expect(stage.seen).toHaveLength(2);
  });

  it('gives up after the second 421, and does not repeat a body that has begun to flow', async () => {
    stage.answer = (_request, response) => response.writeHead(421, NOT_HERE).end();
    const twice = await stage.call('/main/sandboxes/box/x');
    expect([twice.status, twice.headers.get('retry-after')]).toEqual([503, '1']);
    expect(stage.seen).toHaveLength(2);
    stage.seen.length = 0;
    stage.answer = (request, response) => request.once('data', () => response.writeHead(421, NOT_HERE).end());
    const flowing = await stage.call('/main/sandboxes/box/x', { method: 'PUT', body: Buffer.alloc(3_000_000) });
    expect(flowing.status).toBe(503);
    expect(stage.seen).toHaveLength(1);
  });

  it('waits out a node that is just being replaced', async () => {
    const late = createServer((_request, response) => response.end('back again'));
    await once(late.listen(0, '127.0.0.1'), 'listening');
    const port = portOf(late);
    await new Promise((resolve) => late.close(resolve));
    const id = NodeId.parse('node-late');
    await hearOf(stage.store, id, `http://127.0.0.1:${port}`);
    await stage.plant('late', { nodeId: id });
    const answer = stage.call('/main/sandboxes/late/x', { method: 'POST', body: '{}' });
    setTimeout(() => late.listen(port, '127.0.0.1'), 150);
    expect(await (await answer).text()).toBe('back again');
    late.closeAllConnections();
    await new Promise((resolve) => late.close(resolve));
    const gone = await stage.call('/main/sandboxes/late/x');
    expect(gone.status).toBe(503);
    expect(await gone.json()).toMatchObject({ error: { message: expect.stringContaining('"reach node"') } });
  });
});

describe('upgrades', () => {
  it('hands bytes through both ways once admitted, and only then', async () => {
    let nodeSawEnd = 0;
    stage.nodeServer.on('upgrade', (request, socket) => {
      stage.seen.push({ method: 'UPGRADE', url: request.url ?? '', headers: request.headers });
      socket.on('end', () => nodeSawEnd++).on('error', () => undefined);
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello');
      socket.on('data', (bytes: Buffer) => socket.write(bytes.toString().toUpperCase()));
    });
    const upgrade = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-key': 'k' };
    const refused = raw('/main/sandboxes/box/terminal/ws', {
      headers: { ...upgrade, 'x-blaxel-authorization': 'Bearer no' },
    });
    refused.request.end();
    expect((await refused.answered).statusCode).toBe(401);
    expect(stage.seen).toEqual([]);

    const { request } = raw('/main/sandboxes/box/terminal/ws?cols=80', { headers: upgrade });
    request.end();
    const [, socket, head] = (await once(request, 'upgrade')) as [IncomingMessage, Socket, Buffer];
    expect(stage.seen[0]?.url).toMatch(/\/blaxel\/terminal\/ws\?cols=80$/);
    expect(stage.seen[0]?.headers['sec-websocket-key']).toBe('k');
    let got = head.toString();
    socket.on('data', (bytes: Buffer) => (got += bytes.toString()));
    socket.write('frames');
    await vi.waitFor(() => expect(got).toBe('helloFRAMES'));
    socket.destroy();
    await vi.waitFor(() => expect(nodeSawEnd).toBe(1));
  });

  it('lets nobody hold a connection whose upgrade it has refused', async () => {
    const caller = connect({ port: stage.gateway.port, host: '127.0.0.1', allowHalfOpen: true });
    let said = '';
    caller.on('data', (bytes: Buffer) => (said += bytes.toString())).on('error', () => undefined);
    caller.write(
      'GET /main/sandboxes/box/terminal/ws HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n',
    );
    await vi.waitFor(
      () => {
        caller.write('still here');
        expect(caller.destroyed).toBe(true);
      },
      { timeout: 10_000 },
    );
    expect(said).toMatch(/^HTTP\/1\.1 401 /);
  });

  it('ends a connection that was closed by half', async () => {
    const upgrade = { connection: 'Upgrade', upgrade: 'websocket' };
    const { request } = raw('/main/sandboxes/box/terminal/ws', { headers: upgrade });
    request.end();
    const [, socket] = (await once(request, 'upgrade')) as [IncomingMessage, Socket];
    socket.resume().end();
    await expect(once(socket, 'close')).resolves.toBeDefined();
  });
});

describe('slow and broken callers', () => {
  it('answers 408 to a head that never ends, naming the timer', async () => {
    const { said, closed } = speak('GET /main/sandboxes/box HTTP/1.1\r\nhost: x\r\n');
    await closed;
    expect(said()).toMatch(/^HTTP\/1\.1 408 .*"request head\\" ended/s);
  });

  it('answers 408 to a body that stalls, naming the timer', async () => {
    stage.answer = (request) => request.resume();
    const { said, closed } = speak(
      `PUT /main/sandboxes/box/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${stage.apiKey}\r\ncontent-length: 900000\r\n\r\nsome`,
    );
    await closed;
    expect(said()).toMatch(/^HTTP\/1\.1 408 .*request body/s);
  });

  it('reads why it was refused, though it reads nothing before all of its body is sent', async () => {
    const socket = connect(stage.gateway.port, '127.0.0.1').pause();
    let trouble: unknown;
    socket.on('error', (error) => (trouble = error));
    const body = Buffer.alloc(30_000_000);
    socket.write(`PUT /main/sandboxes/box/x HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n`);
    await new Promise<void>((resolve) => void socket.once('close', resolve).write(body, () => resolve()));
    const said = await textOf(socket).catch(() => '');
    expect([trouble, said]).toEqual([undefined, expect.stringMatching(/^HTTP\/1\.1 401 [^]*AUTHENTICATION_REQUIRED/)]);
    expect(stage.seen).toEqual([]);
  });

  it.each([
    ['GARBAGE\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n', 400],
    [`GET /${'x'.repeat(70_000)} HTTP/1.1\r\nhost: x\r\n\r\n`, 431],
    ['GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n', 400],
    ['POST /v0/sandboxes HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n', 400],
  ])('answers %j in the dialect’s shape', async (text, status) => {
    const { said, closed } = speak(text);
    await closed;
    expect(said()).toMatch(new RegExp(`^HTTP/1\\.1 ${status} .*"origin":"platform"`, 's'));
  });

  it('answers a caller that closes its half behind a whole request', async () => {
    const { promise: mayAnswer, resolve: letAnswer } = Promise.withResolvers<void>();
    stage.answer = (_request, response) => void mayAnswer.then(() => response.end('after all'));
    const { socket, said, closed } = speak(
      `GET /main/sandboxes/box/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${stage.apiKey}\r\n\r\n`,
    );
    await vi.waitFor(() => expect(stage.seen).toHaveLength(1));
    socket.end();
    await vi.waitFor(() => expect(said()).toMatch(/^HTTP\/1\.1 102 /));
    letAnswer();
    await closed;
    expect(said()).toMatch(/HTTP\/1\.1 200 [^]*after all/);
  });

  it('lets go of a caller that hangs up in the middle of an answer', async () => {
    const nodeSawEnd = new Promise<void>((resolve) => {
      stage.answer = (_request, response) => {
        response.once('close', resolve).write('the beginning');
      };
    });
    const { socket, said, closed } = speak(
      `GET /main/sandboxes/box/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${stage.apiKey}\r\n\r\n`,
    );
    await vi.waitFor(() => expect(said()).toContain('the beginning'));
    socket.end();
    await expect(Promise.all([closed, nodeSawEnd])).resolves.toBeDefined();
  });
});
