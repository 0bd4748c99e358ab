/** Streams against a guest in memory, where every chunk and every end is ours to choose. */
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { Failure, seededChance, systemClock } from '@torpor/kernel';
import type { Guest, GuestAnswer, GuestRequest } from '@torpor/runtime';
import { describe, expect, test } from 'vitest';
import type { DataPlaneAnswer, DataPlaneRequest } from './exchange.ts';
import { serveBlaxelDataPlane } from './serve.ts';

const PROCESS = {
  id: 'p1',
  pid: 7,
  name: 'n',
  command: 'c',
  cwd: '/blaxel',
  status: 'running',
  startedAt: '2026-11-22T00:00:00.000Z',
  stdoutBytes: 0,
  stderrBytes: 0,
  keepAlive: false,
  stdin: false,
  restarts: 0,
};

interface Stage {
  readonly guest: Guest;
  readonly sent: GuestRequest[];
  /** The stream that the guest answers the next `send` with. */
  readonly stream: PassThrough;
}

function stage(answers: { json?: (method: string, path: string) => unknown; status?: number } = {}): Stage {
  const stream = new PassThrough();
  const sent: GuestRequest[] = [];
  const guest: Guest = {
    send(request): Promise<GuestAnswer> {
      sent.push(request);
      request.signal?.addEventListener('abort', () => stream.destroy(new Error('aborted')));
      return Promise.resolve({ status: answers.status ?? 200, headers: {}, body: stream });
    },
    json: <T>(method: string, path: string) => Promise.resolve((answers.json?.(method, path) ?? PROCESS) as T), // the test chooses the shape
    claim: () => Promise.resolve(),
    busy: () => Promise.resolve({ keepAlive: 0 }),
    tunnel: () => Promise.reject(new Failure('bad_gateway', 'no ports here')),
    close: () => {},
  };
  return { guest, sent, stream };
}

function serve(
  guest: Guest,
  request: Partial<DataPlaneRequest> & { json?: unknown },
  hold?: { keepAwake(reason: string): () => void },
): Promise<DataPlaneAnswer> {
  const body =
    request.json === undefined ? Readable.from([]) : Readable.from([Buffer.from(JSON.stringify(request.json))]);
  return serveBlaxelDataPlane({
    request: { method: 'GET', rawPath: '/', headers: {}, body, signal: new AbortController().signal, ...request },
    guest,
    workdir: '/blaxel',
    clock: systemClock,
    chance: seededChance(1),
    ...(hold ? { hold } : {}),
  });
}

function frame(stream: string, data: string | Buffer): string {
  return `${JSON.stringify({ stream, offset: 0, data: Buffer.from(data).toString('base64') })}\n`;
}

function readable(answer: DataPlaneAnswer): Readable {
  if (answer.body instanceof Readable) return answer.body;
  throw new Error(`expected a stream, got ${String(answer.body)}`);
}

describe('log streams', () => {
  test('lines carry the name of their stream, however they are cut', async () => {
    const { guest, stream } = stage();
    const answer = await serve(guest, { rawPath: '/process/p1/logs/stream' });
    const euro = Buffer.from('€');
    for (const each of [
      frame('stdout', 'a\nb'),
      frame('stdout', 'c\n'),
      frame('stdout', euro.subarray(0, 1)),
      frame('stderr', 'x'),
      frame('stdout', euro.subarray(1)),
      '{"keepalive":true}\n',
      frame('stdout', '\n\n'),
      '{"dropped":{"stream":"stderr","from":1,"to":11}}\n',
      '{"exit":{"code":0,"signal":null}}\n',
    ]) {
      for (const sign of Buffer.from(each)) stream.write(Buffer.from([sign])); // the worst network there is
    }
    stream.end();
    expect((await text(readable(answer))).split('\n')).toEqual([
      'stdout:a',
      'stdout:bc',
      'stderr:x',
      'stdout:€',
      '[keepalive]',
      'stdout:',
      'stdout:',
      expect.stringMatching(/^stderr:.*10 bytes of stderr were dropped/),
      '',
    ]);
  });

  test('a caller who goes lets the guest and the sandbox go', async () => {
    const { guest, sent, stream } = stage();
    const reasons: string[] = [];
    const hold = { keepAwake: (reason: string) => (reasons.push(reason), () => void reasons.push('released')) };
    const answer = await serve(guest, { rawPath: '/process/p1/logs/stream' }, hold);
    stream.write(frame('stdout', 'x\n'));
    await new Promise((resolve) => readable(answer).once('data', resolve));
    expect(reasons).toEqual(['log stream']);
    readable(answer).destroy();
    await expect.poll(() => reasons).toEqual(['log stream', 'released']);
    expect(sent[0]?.signal?.aborted).toBe(true);
  });

  test('a guest that breaks off breaks the stream off: half a log is never a whole one', async () => {
    const { guest, stream } = stage();
    const answer = await serve(guest, { rawPath: '/process/p1/logs/stream' });
    stream.write(frame('stdout', 'x\n'));
    stream.destroy(new Error('gone'));
    await expect(text(readable(answer))).rejects.toThrow('gone');
  });

  test('a guest that says what we do not know is a bad gateway, not a crash', async () => {
    const answer = await serve(stage({ json: () => ({ processes: 'many' }) }).guest, { rawPath: '/process' });
    expect(answer.status).toBe(502);
    const refused = stage({ status: 503 });
    refused.stream.end('<html>');
    expect((await serve(refused.guest, { rawPath: '/process/p1/logs/stream' })).status).toBe(502);
  });
});

describe('exec streams', () => {
  test('signs of life pass, and the time-out ends it with an error line', async () => {
    const { guest, stream, sent } = stage();
    const answer = await serve(guest, {
      method: 'POST',
      rawPath: '/process',
      headers: { accept: 'text/event-stream' },
      json: { command: 'c', waitForCompletion: true, timeout: 0.05 },
    });
    stream.write('{"keepalive":true}\n');
    const lines = (await text(readable(answer)))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines).toEqual([{ type: 'keepalive' }, { type: 'error', data: expect.stringContaining('0.05 s') }]);
    expect(sent[0]?.signal?.aborted).toBe(true);
  });
});

describe('big bodies', () => {
  test('JSON beyond its bound is a 413 and leaves the request to be drained', async () => {
    const body = Readable.from(
      (function* () {
        for (let i = 0; i < 10; i++) yield Buffer.alloc(1024 * 1024, 32);
      })(),
    );
    const answer = await serve(stage().guest, { method: 'POST', rawPath: '/process', body });
    expect(answer.status).toBe(413);
    expect(body.destroyed).toBe(false);
  });

  test('a file is read no faster than the caller takes it', async () => {
    const { guest, stream } = stage();
    const file = {
      path: '/f',
      name: 'f',
      type: 'file',
      size: 1,
      mode: '0644',
      owner: 'root',
      group: 'root',
      modifiedAt: '',
    };
    const send = guest.send.bind(guest);
    const withFile: Guest = {
      ...guest,
      send: async (request) => ({ ...(await send(request)), headers: { 'x-torpor-file': JSON.stringify(file) } }),
    };
    const answer = await serve(withFile, { rawPath: '/filesystem/%2Ff' });
    let written = 0;
    while (written < 64 && stream.write(Buffer.alloc(65_536, 'x'))) written += 1;
    readable(answer).read(0); // it begins to be read, and nobody takes more
    await new Promise((resolve) => setImmediate(resolve));
    expect(readable(answer).readableLength).toBeLessThan(1024 * 1024);
    readable(answer).destroy();
  });
});
