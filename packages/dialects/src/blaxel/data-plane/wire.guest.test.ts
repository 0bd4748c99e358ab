/** The in-sandbox API as it looks on the wire, against the real guest: what no SDK would send is here. */
import { randomBytes } from 'node:crypto';
import { readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startRealGuest, type RealGuest } from '../real-guest.ts';
import { openRehearsal, type Rehearsal } from '../rehearsal.ts';

let real: RealGuest;
let rehearsal: Rehearsal;

beforeAll(async () => {
  real = await startRealGuest();
  rehearsal = await openRehearsal(real.guest, real.workdir);
}, 180_000);

afterAll(async () => {
  await rehearsal.close();
  await real.close();
});

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly text: string;
}

/** Sends the path as it is written here: no client in between tidies it. */
function open(
  method: string,
  rawPath: string,
  body?: string | Buffer,
  headers: Record<string, string> = {},
): Promise<IncomingMessage> {
  const { hostname, port } = new URL(rehearsal.url);
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { hostname, port, method, path: `/acme/sandboxes/demo${rawPath}`, headers, agent: false },
      resolve,
    );
    request.on('error', reject);
    request.end(body);
  });
}

async function call(
  method: string,
  rawPath: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const raw = typeof body === 'string' || Buffer.isBuffer(body) || body === undefined;
  const type: Record<string, string> = raw ? {} : { 'content-type': 'application/json' };
  const answer = await open(method, rawPath, raw ? body : JSON.stringify(body), { ...type, ...headers });
  return { status: answer.statusCode ?? 0, headers: answer.headers, text: method === 'HEAD' ? '' : await text(answer) };
}

function form(parts: readonly { name: string; filename?: string; value: string | Buffer }[]): {
  body: Buffer;
  headers: Record<string, string>;
} {
  const boundary = 'the-boundary';
  const pieces = parts.flatMap(({ name, filename, value }) => [
    `--${boundary}\r\ncontent-disposition: form-data; name="${name}"${filename === undefined ? '' : `; filename="${filename}"`}\r\n\r\n`,
    value,
    '\r\n',
  ]);
  const body = Buffer.concat([...pieces, `--${boundary}--\r\n`].map((piece) => Buffer.from(piece)));
  return { body, headers: { 'content-type': `multipart/form-data; boundary=${boundary}` } };
}

function isRefusal(body: string): boolean {
  try {
    return typeof JSON.parse(body).error === 'string';
  } catch {
    return false; // no JSON, so no refusal of ours
  }
}

const encoded = (path: string) => encodeURIComponent(path);

/** Begins an upload of a private file, and gives its id. */
async function begin(path: string): Promise<string> {
  const answer = await call('POST', `/filesystem-multipart/initiate/${encoded(path)}`, { permissions: '0600' });
  return JSON.parse(answer.text).uploadId;
}

function part(id: string, number: number | string, value: string): Promise<Answer> {
  const { body, headers } = form([{ name: 'file', filename: 'p', value }]);
  return call('PUT', `/filesystem-multipart/${id}/part?partNumber=${number}`, body, headers);
}

/** What an NDJSON stream tells of one of the streams. */
function textOf(ndjson: string, stream: string): string {
  const lines = ndjson
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  return lines.flatMap((line) => (line.type === stream ? [line.data] : [])).join('');
}

describe('addresses', () => {
  test('both ways to write an absolute path, and what is relative', async () => {
    const file = join(real.home, 'p.txt');
    expect((await call('PUT', `/filesystem/${encoded(file)}`, { content: '1' })).status).toBe(200);
    expect(JSON.parse((await call('GET', `/filesystem/${file}`)).text)).toMatchObject({ path: file, content: '1' });
    expect((await call('PUT', '/filesystem/tree%2Fx.txt', { content: '2' })).status).toBe(200);
    expect(await readFile(join(real.workdir, 'tree/x.txt'), 'utf8')).toBe('2');
    expect(JSON.parse((await call('GET', '/filesystem/tree/')).text)).toMatchObject({ path: real.workdir });
    expect(JSON.parse((await call('GET', '/filesystem/tree/tree')).text)).toMatchObject({ files: [{ name: 'x.txt' }] });
    expect(JSON.parse((await call('GET', '/filesystem')).text)).toMatchObject({ path: real.workdir });
  });

  test('names that look like syntax', async () => {
    for (const name of [
      'a b',
      'a%2Fb',
      '100%',
      'ü€',
      'q?x=1',
      '#h',
      '..hidden',
      'tree',
      'a&b=c',
      "it's",
      'line\nbreak',
    ]) {
      const file = join(real.home, name);
      expect((await call('PUT', `/filesystem/${encoded(file)}`, { content: name })).status).toBe(200);
      expect(await readFile(file, 'utf8')).toBe(name);
      expect(JSON.parse((await call('GET', `/filesystem/${encoded(file)}`)).text)).toMatchObject({
        content: name,
        name,
      });
      expect((await call('GET', `/filesystem/${encoded(file)}?download=true`)).text).toBe(name);
      expect((await call('DELETE', `/filesystem/${encoded(file)}`)).status).toBe(200);
    }
  });

  test.each([
    ['GET', '/filesystem/%', 400],
    ['GET', '/filesystem/%00', 400],
    ['GET', '/filesystem/nothing', 404],
    ['GET', '/filesystem/%2Fdev%2Fzero', 422],
    ['PATCH', '/filesystem/x', 405],
    ['GET', '/nothing', 404],
    ['GET', '/process/nobody', 404],
    ['GET', '/process/nobody/logs', 404],
    ['GET', '/process/nobody/logs/stream', 404],
    ['DELETE', '/process/nobody', 404],
    ['DELETE', '/process/nobody/kill', 404],
    ['POST', '/process/nobody/stdin', 404],
    ['GET', '/network/process/nobody/ports', 404],
    ['GET', '/filesystem-find/%2Fnothing', 404],
    ['GET', '/filesystem-find/x?type=socket', 400],
    ['GET', '/filesystem-find/%2Ftmp?maxResults=many', 400],
    ['GET', '/filesystem-content-search/%2Ftmp', 400],
    ['GET', '/watch/filesystem/%2Fnothing', 404],
    ['GET', '/filesystem-multipart/ghostghost/parts', 404],
    ['PUT', '/filesystem-multipart/..%2F..%2Fetc/part?partNumber=1', 404],
    ['POST', '/drives/mount', 501],
    ['POST', '/upgrade', 501],
    ['POST', '/mcp', 501],
    ['GET', '/terminal', 501],
  ])('%s %s is %i and says why', async (method, path, status) => {
    const answer = await call(method, path);
    expect(answer.status).toBe(status);
    expect(JSON.parse(answer.text)).toEqual({ error: expect.stringMatching(/\w+ \w+/) });
  });

  test.each([300, 5000])('a name of %i signs is refused', async (length) => {
    expect((await call('GET', `/filesystem/${'a'.repeat(length)}`)).status).toBe(400);
  });

  test('HEAD of anything is 200, OPTIONS is allowed, and everybody may read everything', async () => {
    expect((await call('HEAD', '/what/ever')).status).toBe(200);
    const options = await call('OPTIONS', '/process');
    expect(options.status).toBe(204);
    expect(options.headers).toMatchObject({ 'access-control-allow-origin': '*', 'access-control-allow-methods': '*' });
    expect((await call('GET', '/nothing')).headers).toMatchObject({
      'access-control-allow-origin': '*',
      'cache-control': expect.stringContaining('no-cache'),
    });
    expect(JSON.parse((await call('GET', '/health')).text)).toMatchObject({ status: 'ok', upgradeCount: 0 });
  });
});

describe('files', () => {
  test.each([
    ['no JSON', '{', 400],
    ['a list', '[]', 400],
    ['content of the wrong type', '{"content": 5}', 400],
    ['permissions that are none', '{"content": "", "permissions": "rwx"}', 400],
    ['permissions beyond octal', '{"content": "", "permissions": "0999"}', 400],
  ])('%s is refused', async (_, body, status) => {
    expect((await call('PUT', '/filesystem/bad.txt', body)).status).toBe(status);
  });

  test('permissions are kept, given, and shown without the zero', async () => {
    const path = `/filesystem/${encoded(join(real.home, 'mode.sh'))}`;
    await call('PUT', path, { content: '1', permissions: '0755' });
    await call('PUT', path, { content: '2' });
    expect(JSON.parse((await call('GET', path)).text)).toMatchObject({ permissions: '755', content: '2' });
    const late = form([
      { name: 'file', filename: 'x', value: '3' },
      { name: 'permissions', value: '0600' },
    ]);
    expect((await call('PUT', path, late.body, late.headers)).status).toBe(200);
    expect(JSON.parse((await call('GET', path)).text)).toMatchObject({ permissions: '600', content: '3' });
    const early = form([
      { name: 'permissions', value: '0640' },
      { name: 'file', filename: 'x', value: '4' },
    ]);
    expect((await call('PUT', path, early.body, early.headers)).status).toBe(200);
    expect((await stat(join(real.home, 'mode.sh'))).mode & 0o7777).toBe(0o640);
  });

  test('a directory or a file in the way is 422', async () => {
    await writeFile(join(real.home, 'file'), '');
    expect((await call('PUT', `/filesystem/${encoded(real.workdir)}`, { content: 'x' })).status).toBe(422);
    expect((await call('PUT', `/filesystem/${encoded(join(real.home, 'file/below'))}`, { content: 'x' })).status).toBe(
      422,
    );
    const big = form([{ name: 'file', filename: 'x', value: randomBytes(2_000_000) }]);
    expect((await call('PUT', `/filesystem/${encoded(real.workdir)}`, big.body, big.headers)).status).toBe(422);
    expect((await call('PUT', `/filesystem/tree/${join(real.home, 'file')}`, { files: { a: '1' } })).status).toBe(422);
    expect((await call('GET', `/filesystem/tree/${join(real.home, 'file')}`)).status).toBe(422);
  });

  test.each([
    ['without a file', form([{ name: 'path', value: 'x' }])],
    ['that breaks off', { body: Buffer.from('--the-boundary\r\ncontent-disp'), headers: form([]).headers }],
    ['without a boundary', { body: Buffer.from('x'), headers: { 'content-type': 'multipart/form-data' } }],
    [
      'with nonsense for permissions',
      form([
        { name: 'permissions', value: 'rwx' },
        { name: 'file', filename: 'x', value: '1' },
      ]),
    ],
  ])('a form %s is a 400', async (_, { body, headers }) => {
    const answer = await call('PUT', '/filesystem/form.bin', body, headers);
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.text)).toEqual({ error: expect.any(String) });
  });

  test('an upload that the client abandons leaves the old file', async () => {
    const file = join(real.home, 'kept.bin');
    await writeFile(file, 'old');
    const { hostname, port } = new URL(rehearsal.url);
    const before = rehearsal.seen.length;
    const socket = connect(Number(port), hostname);
    const head = `PUT /acme/sandboxes/demo/filesystem/${encoded(file)} HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\n`;
    socket.write(
      `${head}content-type: multipart/form-data; boundary=b\r\n\r\n--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n`,
    );
    socket.write(Buffer.alloc(300_000, 1));
    await expect.poll(() => rehearsal.seen.length).toBeGreaterThan(before);
    socket.destroy();
    // The guest drops what it had beside the file as soon as it hears; until then the old one is read.
    await expect
      .poll(async () =>
        JSON.parse((await call('GET', `/filesystem/${encoded(real.home)}`)).text).files.map(
          (each: { name: string }) => each.name,
        ),
      )
      .not.toContainEqual(expect.stringMatching(/^\.torpor-/));
    expect(await readFile(file, 'utf8')).toBe('old');
  });

  test('a range, a link, an empty file, a file of no UTF-8', async () => {
    const at = (name: string) => `/filesystem/${encoded(join(real.home, name))}`;
    await writeFile(join(real.home, 'r.bin'), '0123456789');
    const ranged = await call('GET', at('r.bin'), undefined, {
      accept: 'application/octet-stream',
      range: 'bytes=2-4',
    });
    expect(ranged).toMatchObject({ status: 206, text: '234' });
    expect(ranged.headers['content-range']).toBe('bytes 2-4/10');
    await symlink(join(real.home, 'r.bin'), join(real.home, 'link'));
    expect(JSON.parse((await call('GET', at('link'))).text)).toMatchObject({ content: '0123456789' });
    await writeFile(join(real.home, 'empty'), '');
    expect(JSON.parse((await call('GET', at('empty'))).text)).toMatchObject({ content: '', size: 0 });
    await writeFile(join(real.home, 'latin'), Buffer.from([0x61, 0xff, 0x62]));
    expect(JSON.parse((await call('GET', at('latin'))).text)).toMatchObject({ content: 'a\ufffdb' });
    expect((await call('GET', '/filesystem/%2Fproc%2Fversion')).text).toContain('Linux');
  });
});

describe('uploads in parts', () => {
  test('out of order, one sent twice, listed, put together', async () => {
    const file = join(real.home, 'new/parts.txt');
    const id = await begin(file);
    await part(id, 2, 'second');
    await part(id, 1, 'wrong');
    const first = JSON.parse((await part(id, 1, 'first')).text);
    expect(first).toEqual({ partNumber: 1, etag: expect.stringMatching(/^[0-9a-f]{32}$/), size: 5 });
    const listed = JSON.parse((await call('GET', `/filesystem-multipart/${id}/parts`)).text);
    expect(listed.parts).toMatchObject([{ partNumber: 1, etag: first.etag }, { partNumber: 2 }]);
    const uploads = JSON.parse((await call('GET', '/filesystem-multipart')).text).uploads;
    expect(uploads).toContainEqual(expect.objectContaining({ uploadId: id, path: file, permissions: 0o600 }));
    const bad = [[{ partNumber: 1, etag: 'wrong' }], [{ partNumber: 9 }], [{ partNumber: 1 }, { partNumber: 1 }], []];
    for (const parts of bad)
      expect((await call('POST', `/filesystem-multipart/${id}/complete`, { parts })).status).toBe(400);
    const done = await call('POST', `/filesystem-multipart/${id}/complete`, { parts: [{ partNumber: 2 }, first] });
    expect(JSON.parse(done.text)).toMatchObject({ path: file, message: expect.stringContaining('success') });
    expect(await readFile(file, 'utf8')).toBe('firstsecond');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await call('POST', `/filesystem-multipart/${id}/complete`, { parts: [first] })).status).toBe(404);
  });

  test('lie on the disk until they are put together, for /tmp is the memory of the sandbox', async () => {
    const id = await begin(join(real.home, 'staged'));
    await part(id, 1, 'first');
    const staged = join('/var/tmp/.torpor-uploads', id);
    expect((await readdir(staged)).toSorted()).toEqual([expect.stringMatching(/^part-00001-/), 'upload.json']);
    await call('DELETE', `/filesystem-multipart/${id}/abort`);
    await expect(readdir(staged)).rejects.toThrow('ENOENT');
  });

  test('numbers out of range are refused, and after the abort all is gone', async () => {
    const id = await begin(join(real.home, 'never'));
    for (const number of [0, 10_001, 'x', '', 1.5]) expect((await part(id, number, '1')).status).toBe(400);
    expect(JSON.parse((await call('DELETE', `/filesystem-multipart/${id}/abort`)).text).message).toContain('aborted');
    expect((await part(id, 1, '1')).status).toBe(404);
    expect((await call('DELETE', `/filesystem-multipart/${id}/abort`)).status).toBe(404);
  });
});

describe('processes', () => {
  test('are not found by the steps of a path', async () => {
    for (const path of [
      '/process/.',
      '/process/..',
      '/process/./logs',
      '/process/../logs/stream',
      '/network/process/../ports',
    ]) {
      const { status, text } = await call('GET', path);
      expect([path, status, JSON.parse(text)]).toEqual([path, 404, { error: expect.stringContaining('no process') }]);
    }
  });

  test.each([
    ['nothing', {}, 400, 'command: is required'],
    ['an empty command', { command: '' }, 400, 'command: is required'],
    ['env that is no map', { command: 'true', env: ['a'] }, 400, 'env: expected an object'],
    ['env with numbers', { command: 'true', env: { A: 1 } }, 400, 'env.A: expected text'],
    ['a name of env with =', { command: 'true', env: { 'A=B': '1' } }, 400, 'a name without "="'],
    ['a negative timeout', { command: 'true', timeout: -1 }, 400, 'timeout: expected at least 0'],
    ['ports that are none', { command: 'true', waitForPorts: [0] }, 400, 'waitForPorts[0]: expected at least 1'],
    ['a command with NUL', { command: 'a\0b' }, 400, 'NUL'],
    ['a directory that is not there', { command: 'true', workingDir: '/no/such' }, 422, '/no/such does not exist'],
  ])('%s is refused', async (_, body, status, words) => {
    const answer = await call('POST', '/process', body);
    expect({ status: answer.status, ...JSON.parse(answer.text) }).toEqual({
      status,
      error: expect.stringContaining(words),
    });
  });

  test('output is forwarded as it is written, prompts without a line end too', async () => {
    const command = `printf 'prompt> '; read answer; printf "a $answer\\nb\\n"; printf x >&2`;
    await call('POST', '/process', { name: 'asks', command, stdin: true });
    const log = await open('GET', '/process/asks/logs/stream');
    let seen = '';
    log.on('data', (chunk: Buffer) => (seen += chunk.toString()));
    await expect.poll(() => seen).toBe('stdout:prompt> ');
    expect((await call('POST', '/process/asks/stdin', 'yes\n')).status).toBe(200);
    await expect.poll(() => log.readableEnded).toBe(true);
    const lines = seen.split('\n').filter((line) => line !== '');
    expect(lines.filter((line) => line.startsWith('stdout:'))).toEqual(['stdout:prompt> a yes', 'stdout:b']);
    expect(lines).toContain('stderr:x');
    const records = await call('GET', '/process/asks/logs/stream', undefined, { accept: 'application/x-ndjson' });
    expect(records.headers['content-type']).toBe('application/x-ndjson');
    expect(textOf(records.text, 'stdout')).toBe('prompt> a yes\nb\n');
  });

  test('an exec stream ends with the process as its last line, which says the same as the answer', async () => {
    const body = { command: `printf 'ü€"\\\\\\n'; printf e >&2`, waitForCompletion: true };
    const streamed = await call('POST', '/process', body, { accept: 'text/event-stream' });
    expect(streamed.headers['content-type']).toBe('application/x-ndjson');
    const lines = streamed.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const last = lines.at(-1);
    expect(last.type).toBe('result');
    expect(JSON.parse(last.data)).toMatchObject({ status: 'completed', stdout: 'ü€"\\\n', stderr: 'e', exitCode: 0 });
  });

  test('a stream whose timeout passes says so and ends', async () => {
    const body = { name: 'long', command: 'echo before; sleep 30', waitForCompletion: true, timeout: 0.3 };
    const streamed = await call('POST', '/process', body, { accept: 'text/event-stream' });
    const lines = streamed.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines).toEqual([
      { type: 'stdout', data: 'before\n' },
      { type: 'error', data: expect.stringContaining('0.3 s') },
    ]);
    expect((await call('DELETE', '/process/long/kill')).status).toBe(200);
    await expect.poll(async () => JSON.parse((await call('GET', '/process/long')).text).status).toBe('killed');
    const again = await call('DELETE', '/process/long/kill');
    expect([again.status, JSON.parse(again.text)]).toEqual([422, { error: 'process "long" has already exited' }]);
  });

  test('characters cut by the pipe stay whole', async () => {
    const command = `printf '\\342'; sleep 0.15; printf '\\202'; sleep 0.15; printf '\\254\\n'`;
    const streamed = await call(
      'POST',
      '/process',
      { command, waitForCompletion: true },
      { accept: 'text/event-stream' },
    );
    expect(textOf(streamed.text, 'stdout')).toBe('€\n');
  });

  test('a large environment and command arrive intact', async () => {
    const value = `${'x'.repeat(4000)} "quotes" $dollar \`ticks\` \\ ü€😀 \t`;
    const answer = await call('POST', '/process', {
      command: `printf %s "$BIG"`,
      env: { BIG: value },
      waitForCompletion: true,
    });
    expect(JSON.parse(answer.text).stdout).toBe(value);
    expect(
      JSON.parse((await call('POST', '/process', { command: 'echo $FROM_IDENTITY', waitForCompletion: true })).text)
        .stdout,
    ).toBe('yes\n');
  });
});

describe('whatever is sent', () => {
  const segment = fc.oneof(
    fc.constantFrom(
      'process',
      'filesystem',
      'tree',
      'filesystem-find',
      'filesystem-search',
      'filesystem-content-search',
    ),
    fc.constantFrom(
      'filesystem-multipart',
      'initiate',
      'part',
      'complete',
      'abort',
      'logs',
      'stream',
      'stdin',
      'network',
      'ports',
      'nobody',
    ),
    fc.constantFrom(
      '%2Ftmp%2Fdialects-fuzz',
      '',
      '.',
      '..',
      '%',
      '%zz',
      '%00',
      '%2e%2e',
      '~',
      '**',
      '%E2%82%AC',
      '%FF',
    ),
    fc.stringMatching(/^[a-z0-9%._~!$&'()*+,;=:@-]{0,12}$/),
  );
  const query = fc.constantFrom(
    '',
    '?',
    '?recursive=maybe',
    '?query=%00',
    '?maxResults=-1',
    '?partNumber=1',
    '?download=1',
    '?excludeHidden=x',
    '?query=(',
  );
  const body = fc.oneof(
    fc.constant(''),
    fc.json(),
    fc.constantFrom(
      '{',
      'null',
      '"x"',
      '{"files":{"../x":"1"}}',
      '{"files":[]}',
      '{"parts":null}',
      '{"content":null}',
      '{"command":null}',
    ),
  );

  test('it is answered with a clear refusal, never with 500', async () => {
    // Not below the machine's own root: a wild DELETE must find nothing.
    const path = fc.array(segment, { maxLength: 4 }).map((segments) => `/${segments.join('/')}`);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('GET', 'POST', 'PUT', 'PATCH'),
        path,
        query,
        body,
        async (method, at, search, sent) => {
          if (/watch|content-search|stream/.test(at)) return; // these may rightly go on for ever or read the whole disk
          if (method !== 'GET' && !/^\/(process|filesystem-multipart|filesystem\/%2Ftmp|network)/.test(at)) return;
          if (/^\/filesystem-(find|search)/.test(at) && !at.includes('tmp')) return;
          const answer = await call(method, `${at}${search}`, method === 'GET' ? undefined : sent);
          const said = `${method} ${at}${search} ${sent} → ${answer.status} ${answer.text.slice(0, 200)}`;
          const clear = answer.status < 400 || (answer.status !== 500 && isRefusal(answer.text));
          expect(clear ? '' : said).toBe('');
        },
      ),
      { numRuns: 400 },
    );
    expect(rehearsal.bugs).toEqual([]);
  }, 60_000);
});
