import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { wholeNumber } from './sandbox.ts';

it('says within which bounds a number must lie', () => {
  expect(wholeNumber('0')).toBe(0);
  expect(() => wholeNumber('1e9')).toThrow('expected a whole number from 0 to 999999999');
});

describe('a program that is attended', { timeout: 60_000 }, () => {
  const signals: string[] = [];
  let output: ServerResponse | undefined;
  // A guest with one program: it writes without end, and a signal ends it.
  const guest = createServer((request, answer) => {
    if (request.method === 'GET') {
      output = answer;
      return void writeOn(answer);
    }
    let body = '';
    request.on('data', (part: Buffer) => (body += part.toString()));
    request.on('end', () => {
      answer.end(JSON.stringify({ id: 'p1', name: 'p1', pid: 7 }));
      if (!request.url?.endsWith('/signal')) return;
      signals.push((JSON.parse(body) as { signal: string }).signal);
      output?.end(`${JSON.stringify({ exit: { code: 143 } })}\n`);
    });
  });
  afterEach(() => {
    guest.closeAllConnections();
    guest.close();
    signals.length = 0;
  });

  function writeOn(answer: ServerResponse): void {
    if (answer.writableEnded || answer.destroyed) return;
    answer.write(`${JSON.stringify({ stream: 'stdout', data: Buffer.from('y\n').toString('base64') })}\n`);
    setTimeout(writeOn, 5, answer);
  }

  async function exec() {
    await new Promise<void>((resolve) => guest.listen(0, '127.0.0.1', resolve));
    const { port } = guest.address() as AddressInfo; // a TCP server's
    const main = join(import.meta.dirname, '../main.ts');
    return spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main, 'sandbox', 'exec', 'web', 'yes'], {
      env: {
        ...process.env,
        TORPOR_URL: `http://127.0.0.1:${port}`,
        TORPOR_API_KEY: 'key',
        TORPOR_WORKSPACE: 'main',
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  }

  it.each([
    ['SIGTERM', 'TERM'],
    ['SIGHUP', 'HUP'],
    ['SIGINT', 'INT'],
  ] as const)('is ended by the %s that ends us', async (signal, name) => {
    const child = await exec();
    await once(child.stdout, 'data');
    child.kill(signal);
    expect(await once(child, 'exit')).toEqual([143, null]);
    expect(signals).toEqual([name]);
  });

  it('is ended when nobody reads its output any more', async () => {
    const child = await exec();
    await once(child.stdout, 'data');
    child.stdout.destroy();
    expect(await once(child, 'exit')).toEqual([143, null]);
    expect(signals).toEqual(['TERM']);
  });
});
