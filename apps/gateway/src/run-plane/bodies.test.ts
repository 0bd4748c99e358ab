/** Streamed bodies, of announced length and in chunks, on ways that are out of date, refused, or break: they arrive whole or the caller hears of it. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage, type RequestListener } from 'node:http';
import { connect, createServer as createTcpServer, type Server } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { CODE_HEADER, Generation, newInstanceId, NodeId, type Route } from '@torpor/contracts';
import { explain, systemChance, systemClock } from '@torpor/kernel';
import { silentTelemetry } from '@torpor/telemetry';
import { describe, expect, it } from 'vitest';
import { carry } from './carry.ts';
import { NodeConnections } from './node-connections.ts';
import { beginning, listening, open, saying } from './raw-servers.ts';
import { runRefusal } from './refusal.ts';

async function freePort(): Promise<number> {
  const server = createTcpServer();
  const port = await listening(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A node that answers with what it was sent: how much, and its checksum. */
function reader(): Server & { readonly ends: string[] } {
  const ends: string[] = [];
  const server = createServer((request, response) => {
    const sum = createHash('sha256');
    let bytes = 0;
    request.on('data', (chunk: Buffer) => {
      sum.update(chunk);
      bytes += chunk.length;
    });
    request.once('error', () => ends.push('cut'));
    request.once('end', () => {
      ends.push('whole');
      response.end(`${bytes} ${sum.digest('hex')}`);
    });
  });
  return Object.assign(server, { ends });
}

const MISDIRECTED = `HTTP/1.1 421 Misdirected Request\r\n${CODE_HEADER}: misdirected\r\ncontent-length: 0\r\n\r\n`;

interface Hooks {
  /** Ports of the node: as remembered, and as PostgreSQL has it. */
  readonly first: number;
  readonly second?: number;
  /** Before the way is read anew. */
  readonly between?: (attempt: number) => unknown;
  readonly bodyIdleMs?: number;
}

/** As much of a gateway as carries; the attempts it took are in `attempts`. */
async function gateway(hooks: Hooks): Promise<{ port: number; attempts: number[] }> {
  const attempts: number[] = [];
  const nodes = new NodeConnections({ connectMs: 2_000, keepMs: 10_000 });
  open.push(() => nodes.close());
  const carrier = {
    nodes,
    clock: systemClock,
    dataKey: 'key',
    timers: { bodyIdleMs: hooks.bodyIdleMs ?? 10_000, drainMs: 10_000, reachMs: 5_000, lingerMs: 1_000 },
  };
  const route = (port: number): Route => ({
    instanceId: newInstanceId(systemChance),
    generation: Generation.parse(1),
    nodeId: NodeId.parse('node-1'),
    nodeUrl: `http://127.0.0.1:${port}`,
  });
  let read = 0;
  const way = {
    find: () => route(hooks.first),
    readAnew: async () => {
      await hooks.between?.(++read);
      return route(hooks.second ?? hooks.first);
    },
  };
  const serve: RequestListener = (request, response) =>
    void silentTelemetry().span('test', {}, async (span) => {
      const notes: Record<string, unknown> = {};
      const exchange = {
        id: 'r1',
        clock: systemClock,
        span,
        request,
        response,
        notes,
        signal: new AbortController().signal,
      };
      try {
        await carry(carrier, exchange, { way, part: 'blaxel', rest: '/x' });
      } catch (error) {
        const { status, body } = runRefusal(error, 0);
        if (!response.destroyed) response.writeHead(status, { connection: 'close' }).end(JSON.stringify(body));
      }
      attempts.push(Number(notes['attempts']));
    });
  return { port: await listening(createServer(serve)), attempts };
}

type Framing = 'sized' | 'chunked';

/** A caller in the middle of its request: the head is sent, the body is sent as the test wants. */
function upload(port: number, framing: Framing, size: number) {
  const body = Buffer.allocUnsafe(size);
  for (let at = 0; at < size; at++) body[at] = (at * 7 + (at >> 8)) & 0xff;
  const headers = framing === 'sized' ? { 'content-length': size } : { 'transfer-encoding': 'chunked' };
  const request = httpRequest({ host: '127.0.0.1', port, method: 'PUT', headers, agent: false });
  request.flushHeaders();
  const answered = new Promise<string>((resolve, reject) => {
    request.on('error', reject).once('response', (answer: IncomingMessage) => {
      let text = '';
      answer.on('data', (chunk: Buffer) => (text += chunk.toString()));
      answer.once('error', reject).once('end', () => resolve(`${answer.statusCode} ${text}`));
    });
  });
  answered.catch(() => {}); // a test that is done with it earlier
  return {
    request,
    answered,
    whole: `200 ${size} ${createHash('sha256').update(body).digest('hex')}`,
    /** In pieces, as a network would. */
    async send(from = 0, to = size): Promise<void> {
      for (let at = from; at < to; at += 20_000) {
        request.write(body.subarray(at, Math.min(at + 20_000, to)));
        await nextTurn();
      }
      if (to === size) request.end();
    },
  };
}

describe.each(['sized', 'chunked'] as const)('a %s body', (framing) => {
  it('arrives whole when the node refused the connection and came back', async () => {
    const port = await freePort();
    const node = reader();
    const { port: at, attempts } = await gateway({
      first: port,
      between: (attempt) => (attempt === 3 ? listening(node, port) : undefined),
    });
    const caller = upload(at, framing, 300_000);
    await caller.send();
    expect(await caller.answered).toBe(caller.whole);
    expect(attempts).toEqual([4]);
  });

  it('arrives whole when it begins only after the connection was refused', async () => {
    const port = await freePort();
    const node = reader();
    const begun = Promise.withResolvers<void>();
    const { port: at } = await gateway({
      first: port,
      between: async (attempt) => {
        if (attempt !== 2) return;
        begun.resolve();
        await listening(node, port);
      },
    });
    const caller = upload(at, framing, 5_000);
    await begun.promise;
    await caller.send();
    expect(await caller.answered).toBe(caller.whole);
  });

  it.each([5_000, 300_000])('of %i bytes arrives whole when it begins after a 421', async (size) => {
    const misdirected = Promise.withResolvers<void>();
    const { port, attempts } = await gateway({
      first: await listening(saying(MISDIRECTED)),
      second: await listening(reader()),
      between: () => misdirected.resolve(),
    });
    const caller = upload(port, framing, size);
    await misdirected.promise;
    await caller.send();
    expect(await caller.answered).toBe(caller.whole);
    expect(attempts).toEqual([2]);
  });

  it('arrives whole when its first piece comes while the way is read anew', async () => {
    const misdirected = Promise.withResolvers<void>();
    const sent = Promise.withResolvers<void>();
    const { port } = await gateway({
      first: await listening(saying(MISDIRECTED)),
      second: await listening(reader()),
      between: () => {
        misdirected.resolve();
        return sent.promise;
      },
    });
    const caller = upload(port, framing, 60_000);
    await misdirected.promise;
    await caller.send(0, 40_000);
    sent.resolve();
    await caller.send(40_000);
    expect(await caller.answered).toBe(caller.whole);
  });

  it('is not sent twice once a byte was handed over: not after a 421, not after a broken connection', async () => {
    const other = reader();
    const second = await listening(other);
    const afterBody = (answer: string) =>
      createTcpServer((socket) => {
        let got = 0;
        socket
          .on('error', () => {})
          .on('data', (bytes) => {
            // More than the head, so some of the body.
            if ((got += bytes.length) > 2_000) socket.end(answer).destroySoon();
          });
      });
    for (const answer of [MISDIRECTED, '']) {
      const { port, attempts } = await gateway({ first: await listening(afterBody(answer)), second });
      const caller = upload(port, framing, 300_000);
      await caller.send(0, 40_000);
      // A refusal, or nothing more than a closed connection: whoever still sends may not get to read it.
      expect(await caller.answered.catch(explain)).not.toMatch(/^2/);
      await expect.poll(() => attempts).toEqual([1]);
    }
    expect(other.ends).toEqual([]);
  });

  it('that its caller breaks off never ends well at the node', async () => {
    const node = reader();
    const { port } = await gateway({ first: await listening(node) });
    const caller = upload(port, framing, 300_000);
    const arrived = once(node, 'request');
    await caller.send(0, 100_000);
    await arrived;
    caller.request.destroy();
    await expect.poll(() => node.ends).toEqual(['cut']);
  });

  it('that stalls while the way is read anew is broken off, naming the timer', async () => {
    const { port } = await gateway({
      first: await listening(saying(MISDIRECTED)),
      second: await listening(reader()),
      bodyIdleMs: 100,
    });
    const caller = upload(port, framing, 5_000);
    expect(await caller.answered).toMatch(/^408 .*request body/);
  });

  it('that was answered before its end leaves its caller’s connection to the next request', async () => {
    let answers = 0;
    const node = createServer((request, response) => {
      answers += 1;
      if (request.method === 'PUT') request.once('data', () => response.writeHead(413).end('enough'));
      else response.end('the next');
    });
    const { port } = await gateway({ first: await listening(node) });
    const head = framing === 'sized' ? 'content-length: 3000000' : 'transfer-encoding: chunked';
    const caller = connect(port, '127.0.0.1');
    open.push(() => caller.destroy());
    let said = '';
    caller.on('data', (bytes: Buffer) => (said += bytes.toString()));
    const half =
      framing === 'sized' ? 'x'.repeat(1_500_000) : `${(1_500_000).toString(16)}\r\n${'x'.repeat(1_500_000)}\r\n`;
    caller.write(`PUT / HTTP/1.1\r\nhost: x\r\n${head}\r\n\r\n${half}`);
    await expect.poll(() => said).toContain('enough');
    caller.write(`${half}${framing === 'sized' ? '' : '0\r\n\r\n'}GET / HTTP/1.1\r\nhost: x\r\n\r\n`);
    await expect.poll(() => said).toContain('the next');
    expect(answers).toBe(2);
  });
});

describe('an answer that breaks off', () => {
  it.each([
    ['sized', '1.1', 'FIN'],
    ['sized', '1.0', 'FIN'],
    ['chunked', '1.1', 'FIN'],
    ['chunked', '1.0', 'FIN'],
    ['sized', '1.1', 'RST'],
    ['chunked', '1.0', 'RST'],
    ['ended by the close', '1.1', 'RST'],
    ['ended by the close', '1.0', 'RST'],
  ] as const)('%s, to a caller of HTTP/%s, by a %s, breaks the caller’s connection', async (kind, version, how) => {
    const some = Promise.withResolvers<void>();
    const node = saying(beginning(kind), (socket) => {
      void some.promise.then(() => (how === 'FIN' ? socket.destroy() : socket.resetAndDestroy()));
    });
    const { port } = await gateway({ first: await listening(node) });
    const caller = connect(port, '127.0.0.1');
    open.push(() => caller.destroy());
    let said = '';
    let ended = 'open';
    caller
      .on('data', (bytes: Buffer) => {
        said += bytes.toString();
        if (said.includes('some')) some.resolve();
      })
      .once('end', () => (ended = 'ended'))
      .once('error', () => (ended = 'broken'));
    caller.write(`GET / HTTP/${version}\r\nhost: x\r\n\r\n`);
    await expect.poll(() => caller.closed || ended !== 'open').toBe(true);
    // Whoever reads as the head says notices that something is missing.
    const tells =
      ended === 'broken' || /content-length: 900/i.test(said) || (/chunked/i.test(said) && !said.endsWith('0\r\n\r\n'));
    expect({ said, ended, tells }).toMatchObject({ tells: true });
  });

  it('by an orderly close, where nothing else frames it, is whole', async () => {
    const node = saying(beginning('ended by the close'), (socket) => socket.end());
    const { port } = await gateway({ first: await listening(node) });
    const [answer] = (await once(httpRequest({ host: '127.0.0.1', port, agent: false }).end(), 'response')) as [
      IncomingMessage,
    ];
    let text = '';
    for await (const chunk of answer) text += String(chunk);
    expect(text).toBe('some');
  });
});
