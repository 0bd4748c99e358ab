import { DATA_KEY_HEADER, NodeId } from '@torpor/contracts';
import { seededChance, systemClock } from '@torpor/kernel';
import type { FakeProgram } from '@torpor/runtime';
import { silentTelemetry } from '@torpor/telemetry';
import {
  createServer,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type RequestOptions,
} from 'node:http';
import { connect } from 'node:net';
import { Duplex } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { nodeEvents } from '../events.ts';
import { ParcelOffice } from '../moves/office.ts';
import { rehearse, stage, startAsk, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from '../standby/instance.ts';
import { serveDataPlane, type DataPlane } from './server.ts';

const KEY = 'data-key';
let set: Stage;
let room: Rehearsal;
let plane: DataPlane;
let instance: Instance;
let resumeMs: [number, number];
const seen: { url: string; rawHeaders: string[]; method: string }[] = [];

/** A web server of a tenant: `web PORT`. */
const web: FakeProgram = async ({ args, listen, sleep }) => {
  const server = createServer((request, response) => {
    seen.push({ url: request.url ?? '', rawHeaders: request.rawHeaders, method: request.method ?? '' });
    if (request.url === '/events') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: first\n\n');
      return;
    }
    response.setHeader('x-app', 'yes');
    response.appendHeader('set-cookie', 'a=1');
    response.appendHeader('set-cookie', 'b=2');
    request.pipe(response.writeHead(201, 'Made'));
  });
  server.on('upgrade', (_request, socket, head) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n');
    socket.write(head);
    socket.pipe(socket);
  });
  listen(Number(args[0]), (connection) => void server.emit('connection', connection));
  for (;;) await sleep(3_600_000);
};

/** Answers every request by changing to a protocol that nobody asked for: `turncoat PORT`. */
const turncoat: FakeProgram = async ({ args, listen, sleep }) => {
  listen(Number(args[0]), (connection) => {
    connection.once('data', () =>
      connection.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: own\r\nConnection: Upgrade\r\n\r\n'),
    );
  });
  for (;;) await sleep(3_600_000);
};

beforeEach(async () => {
  seen.length = 0;
  resumeMs = [0, 0];
  set = stage(systemClock, {
    programs: { web, turncoat },
    chance: seededChance(2),
    latencyMs: {
      get 'sandbox.resume'() {
        return resumeMs;
      },
    },
  });
  room = rehearse(set);
  await room.standby.start(startAsk());
  instance = room.standby.at(startAsk().instanceId, 1);
  plane = await serveDataPlane({
    listen: { host: '127.0.0.1', port: 0 },
    dataKey: KEY,
    standby: room.standby,
    parcels: new ParcelOffice(room.parts, room.standby, NodeId.parse('n1')),
    clock: systemClock,
    chance: seededChance(1),
    events: nodeEvents(silentTelemetry()),
    telemetry: silentTelemetry(),
  });
});

afterEach(async () => {
  await plane.close();
  await room.standby.close();
});

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

function open(rest: string, options: RequestOptions & { body?: string | Buffer } = {}): Promise<IncomingMessage> {
  const path = rest.startsWith('/d/') ? rest : `/d/iaaaaaaaaaaa/1${rest}`;
  return new Promise((resolve, reject) => {
    const headers = { [DATA_KEY_HEADER]: KEY, ...options.headers };
    const request = httpRequest({ host: '127.0.0.1', port: plane.port, ...options, path, headers }, resolve);
    request.on('error', reject);
    request.end(options.body);
  });
}

function firstOf(stream: IncomingMessage): Promise<string> {
  return new Promise((resolve) => stream.once('data', (chunk: Buffer) => resolve(chunk.toString())));
}

async function run(shell: string): Promise<string> {
  const headers = { 'content-type': 'application/json' };
  const { body } = await ask('/guest/v1/processes', { method: 'POST', body: JSON.stringify({ shell }), headers });
  return JSON.parse(body).id;
}

async function ask(rest: string, options?: Parameters<typeof open>[1]): Promise<Answer> {
  const response = await open(rest, options);
  return { status: response.statusCode ?? 0, headers: response.headers, body: await text(response) };
}

function resumes(): number {
  return set.host.calls.filter(({ verb }) => verb === 'sandbox.resume').length;
}

describe('who may come in', () => {
  it('nobody without the key, and a refused request thaws nothing', async () => {
    await instance.pause();
    const refused = await ask('/guest/v1/health', { headers: { [DATA_KEY_HEADER]: 'wrong' } });
    expect([refused.status, JSON.parse(refused.body).code]).toEqual([401, 'unauthenticated']);
    expect((await ask('/nothing')).status).toBe(404);
    expect([instance.state, resumes()]).toEqual(['paused', 0]);
  });

  it('nobody at an older generation, since a greater one is news: the answer says what is known', async () => {
    expect((await ask('/d/iaaaaaaaaaaa/2/guest/v1/health')).status).toBe(200);
    const answer = await ask('/d/iaaaaaaaaaaa/1/guest/v1/health');
    expect(answer.status).toBe(421);
    expect(JSON.parse(answer.body)).toMatchObject({ code: 'misdirected', knows: { generation: 2, state: 'running' } });
    const unknown = await ask('/d/ibbbbbbbbbbb/1/guest/v1/health');
    expect([unknown.status, JSON.parse(unknown.body).code]).toEqual([421, 'misdirected']);
  });

  it('nobody when it has failed: the answer says why', async () => {
    set.host.kill(instance.report().hostId ?? instance.claim.instanceId);
    await instance.check();
    const answer = await ask('/blaxel/process');
    expect([answer.status, JSON.parse(answer.body).error]).toEqual([410, expect.stringContaining('process is gone')]);
  });

  it('the guest, but not to give it another identity', async () => {
    for (const path of [
      '/guest/v1/identity',
      '/guest/v1/tunnel?port=1',
      '/guest/v1//identity',
      '/guest/identity',
      '/guest/v1/mounts',
    ]) {
      expect((await ask(path, { method: 'POST' })).status).toBe(404);
    }
  });
});

describe('a wake', () => {
  it('is told in Server-Timing, and so is that none was needed', async () => {
    await instance.pause();
    const woke = await ask('/guest/v1/health');
    expect(woke.headers['server-timing']).toMatch(/^wake;desc="paused";dur=\d+\.\d+$/);
    expect(woke.headers['x-torpor-state']).toBe('paused');
    const ran = await ask('/blaxel/process');
    expect([ran.status, ran.headers['server-timing']]).toEqual([200, 'wake;desc="running";dur=0']);
  });

  it('from disk is told as such', async () => {
    await instance.store('asked');
    const woke = await ask('/guest/v1/health');
    expect([woke.headers['server-timing'], woke.headers['x-torpor-state']]).toEqual([
      expect.stringMatching(/^wake;desc="stored";dur=\d+\.\d+$/),
      'stored',
    ]);
  });

  it('is one for a hundred requests at once', async () => {
    await instance.pause();
    const answers = await Promise.all(Array.from({ length: 100 }, () => ask('/guest/v1/health')));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(resumes()).toBe(1);
  });

  it('is not waited for before a read is sent: what is sent to a sleeping guest waits there', async () => {
    await instance.pause();
    resumeMs = [50, 50];
    const { guest } = instance;
    const send = guest.send.bind(guest);
    const sentWhile: string[] = [];
    vi.spyOn(guest, 'send').mockImplementation((request) => {
      sentWhile.push(instance.state);
      return send(request);
    });
    const { status, headers } = await ask('/guest/v1/health');
    expect([sentWhile, status, headers['x-torpor-state'], instance.state]).toEqual([
      ['waking'],
      200,
      'paused',
      'running',
    ]);
    expect(Number(/dur=([\d.]+)/.exec(String(headers['server-timing']))?.[1])).toBeGreaterThan(40);
  });

  it('that fails refuses all alike; what could change something was not even sent', async () => {
    await instance.pause();
    for (let turn = 0; turn < 3; turn++) set.host.failNext('sandbox.resume', 'before');
    const send = vi.spyOn(instance.guest, 'send');
    const read = ask('/guest/v1/processes');
    const body = JSON.stringify({ shell: 'echo unseen' });
    const write = ask('/guest/v1/processes', { method: 'POST', body });
    for (const answer of await Promise.all([read, write])) {
      expect([answer.status, JSON.parse(answer.body).error]).toEqual([503, expect.stringContaining('cannot be woken')]);
    }
    expect(send.mock.calls.map(([request]) => request.method)).toEqual(['GET']);
    expect(JSON.parse((await ask('/guest/v1/processes')).body)).toEqual({ processes: [] });
  });

  it('that finds nobody tells of the death, not of the connection that broke with it', async () => {
    await instance.pause();
    set.host.kill(instance.report().hostId ?? instance.claim.instanceId);
    const answer = await ask('/guest/v1/health');
    expect([answer.status, JSON.parse(answer.body).error]).toEqual([410, expect.stringContaining('process is gone')]);
  });

  it('begins while the body is still on its way', async () => {
    await instance.pause();
    const request = httpRequest({
      host: '127.0.0.1',
      port: plane.port,
      method: 'PUT',
      path: '/d/iaaaaaaaaaaa/1/guest/v1/files/content?path=/tmp/late',
      headers: { [DATA_KEY_HEADER]: KEY, 'content-length': 4 },
    });
    const answered = new Promise<IncomingMessage>((resolve) => request.once('response', resolve));
    request.write('ab');
    await vi.waitFor(() => expect(instance.state).toBe('running'));
    request.end('cd');
    expect((await answered).statusCode).toBe(200);
    expect((await ask('/guest/v1/files/content?path=/tmp/late')).body).toBe('abcd');
  });
});

describe('streams', () => {
  it('go out as they come and hold awake while somebody reads', async () => {
    await instance.setPolicy({ idle: { kind: 'after', idleMs: 50 } });
    const id = await run('count 20');
    const stream = await open(`/guest/v1/processes/${id}/output?stream=stdout&follow=1&format=raw`);
    let lines = 0;
    stream.on('data', (chunk: Buffer) => (lines += chunk.toString().split('\n').length - 1));
    await vi.waitFor(() => expect(lines).toBeGreaterThan(10));
    expect([instance.state, instance.report().because]).toEqual(['running', 'stream']);
    stream.destroy();
    await vi.waitFor(() => expect(instance.state).toBe('paused'));
    expect(instance.openStays).toBe(0);
  });

  it('end with an error when the instance dies', async () => {
    const id = await run('sleep 1000');
    const follow = () => open(`/guest/v1/processes/${id}/output?stream=stdout&follow=1&format=raw`);
    const dying = (await follow()).resume();
    const broken = new Promise((resolve) => dying.once('error', resolve));
    set.host.kill(instance.report().hostId ?? instance.claim.instanceId);
    await instance.check();
    expect(await broken).toMatchObject({ code: 'ECONNRESET' });
  });

  it('end with an error when the node-agent closes', async () => {
    const id = await run('sleep 1000');
    const dying = (await open(`/guest/v1/processes/${id}/output?stream=stdout&follow=1&format=raw`)).resume();
    const broken = new Promise((resolve) => dying.once('error', resolve));
    await plane.close();
    expect(await broken).toMatchObject({ code: 'ECONNRESET' });
  });
});

describe('a port inside', () => {
  beforeEach(async () => {
    await run('web 8080');
    await run('echo-server 9000');
  });

  it('is reached with path, headers and body as they came, and answers as it is', async () => {
    const body = Buffer.alloc(200_000, 'x');
    const headers = {
      'content-length': body.length,
      authorization: 'Bearer app',
      'x-forwarded-host': 'preview.example',
    };
    const response = await open('/port/8080//a%2Fb?c=%20', { method: 'POST', body, headers });
    expect([response.statusCode, response.statusMessage, response.headers['x-app']]).toEqual([201, 'Made', 'yes']);
    expect(response.headers['set-cookie']).toEqual(['a=1', 'b=2']);
    expect(response.headers['server-timing']).toContain('wake;desc="running"');
    expect((await buffer(response)).equals(body)).toBe(true);
    const [inside] = seen;
    expect([inside?.method, inside?.url]).toEqual(['POST', '//a%2Fb?c=%20']);
    const sent = Object.fromEntries(
      (inside?.rawHeaders ?? []).flatMap((name, at, all) => (at % 2 ? [] : [[name.toLowerCase(), all[at + 1]]])),
    );
    expect(sent).toMatchObject({
      authorization: 'Bearer app',
      'x-forwarded-host': 'preview.example',
      host: expect.stringContaining('127.0.0.1'),
    });
    expect(sent[DATA_KEY_HEADER]).toBeUndefined();
  });

  it('takes bodies of unknown length', async () => {
    const response = await open('/port/8080/', {
      method: 'POST',
      body: 'chunked',
      headers: { 'transfer-encoding': 'chunked' },
    });
    expect(await text(response)).toBe('chunked');
  });

  it('whose answer breaks off where only its end frames it cuts the caller’s connection', async () => {
    const tunnel = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
    vi.spyOn(instance.guest, 'tunnel').mockResolvedValue(tunnel);
    tunnel.push('HTTP/1.0 200 OK\r\n\r\nhalf');
    const response = await open('/port/8080/');
    response.once('data', () => tunnel.destroy(new Error('reset')));
    await expect(text(response)).rejects.toThrow('aborted');
  });

  it.each(['content-length', 'transfer-encoding'])(
    'never gets the end of a body framed by %s that its caller broke off',
    async (framing) => {
      const ended = vi.fn<() => void>();
      const arrived = Promise.withResolvers<void>();
      const tunnel = new Duplex({
        read() {},
        write(chunk: Buffer, _encoding, done) {
          if (chunk.toString('latin1').includes('half')) arrived.resolve();
          if (chunk.toString('latin1').includes('0\r\n\r\n')) ended();
          done();
        },
        final(done) {
          ended();
          done();
        },
      });
      vi.spyOn(instance.guest, 'tunnel').mockResolvedValue(tunnel);
      const caller = connect(plane.port, '127.0.0.1');
      const [frame, body] = framing === 'content-length' ? ['10', 'half'] : ['chunked', '4\r\nhalf\r\n'];
      caller.write(
        `PUT /d/iaaaaaaaaaaa/1/port/8080/ HTTP/1.1\r\nHost: x\r\n${DATA_KEY_HEADER}: ${KEY}\r\n${framing}: ${frame}\r\n\r\n${body}`,
      );
      await arrived.promise;
      caller.end();
      await vi.waitFor(() => expect(tunnel.destroyed).toBe(true));
      expect(ended).not.toHaveBeenCalled();
    },
  );

  it('that nobody listens on is a bad gateway', async () => {
    const answer = await ask('/port/1/');
    expect([answer.status, JSON.parse(answer.body)]).toMatchObject([
      502,
      {
        error: {
          code: 'WORKLOAD_UNAVAILABLE',
          message: expect.stringMatching(/nobody listens on port 1 of sandbox "\w+"/),
        },
      },
    ]);
    expect(instance.state).toBe('running');
  });

  it('that changes to a protocol nobody asked for is a bad gateway, and holds nothing', async () => {
    await run('turncoat 9100');
    expect((await ask('/port/9100/')).status).toBe(502);
    expect(instance.openStays).toBe(0);
  });

  it('holds the sandbox awake until its answer has ended, however still it is', async () => {
    await instance.setPolicy({ idle: { kind: 'after', idleMs: 50 } });
    const stream = await open('/port/8080/events');
    expect(await firstOf(stream)).toBe('data: first\n\n');
    expect(instance.uses.holds).toBe(true);
    stream.destroy();
    await vi.waitFor(() => expect(instance.state).toBe('paused'));
  });

  it('streams events to a preview without holding the sandbox awake, and wakes nothing by itself', async () => {
    await instance.setPolicy({ idle: { kind: 'after', idleMs: 50 } });
    const stream = await open('/preview/8080/events');
    expect(await firstOf(stream)).toBe('data: first\n\n');
    await vi.waitFor(() => expect(instance.state).toBe('paused'));
    expect(instance.openStays).toBe(1);
    stream.destroy();
    await vi.waitFor(() => expect(instance.openStays).toBe(0));
  });

  it('speaks other protocols after an upgrade, and a byte on it wakes a sleeper', async () => {
    await instance.setPolicy({ idle: { kind: 'after', idleMs: 50 } });
    const socket = connect(plane.port, '127.0.0.1');
    let got = '';
    socket.on('data', (chunk) => (got += chunk.toString()));
    const lines = [
      'GET /d/iaaaaaaaaaaa/1/port/8080/ws HTTP/1.1',
      'Host: x',
      `${DATA_KEY_HEADER}: ${KEY}`,
      'Connection: Upgrade',
      'Upgrade: echo',
    ];
    socket.write(`${lines.join('\r\n')}\r\n\r\n`);
    await vi.waitFor(() => expect(got).toContain('101 Switching Protocols'));
    await vi.waitFor(() => expect(instance.state).toBe('paused'));
    socket.write('ping');
    await vi.waitFor(() => expect(got).toContain('ping'));
    socket.destroy();
    await vi.waitFor(() => expect(instance.openStays).toBe(0));
  });

  it('refuses an upgrade as it refuses anything', async () => {
    const socket = connect(plane.port, '127.0.0.1');
    socket.write(
      'GET /d/iaaaaaaaaaaa/1/port/8080/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n',
    );
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 401 Unauthorized/);
  });
});
