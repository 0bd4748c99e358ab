/** Bad input on every plane of the running stack: a clear 4xx in the plane's own shape, and whoever is slow or half gone is let go by a named timer. */
import { fuzzedRequest, requestText } from '@torpor/testkit';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { createOne, putFile, type Made } from '../bench/lib/sandboxes.ts';
import { client, expectOk, type Stack } from '../bench/lib/stack.ts';
import { sh, start } from './inside.ts';
import { send, type RawAnswer, type SendOptions } from './raw-http.ts';
import { ANY_SHAPE, hasShape, type Shape } from './refusal-shapes.ts';
import { freshName, isFull, testStack } from './test-stack.ts';

/** The same requests in every run, so that what passes here passes there; to look for more, name other seeds. */
const SEED = Number(process.env.SEED ?? 1);
const REQUESTS = Number(process.env.REQUESTS ?? (isFull ? 5_000 : 500));

let stack: Stack;
let box: Made;
let preview: string;
let slow: Promise<Record<'head' | 'control body' | 'run body' | 'half', RawAnswer>>;

beforeAll(async () => {
  stack = await testStack();
  box = await createOne(stack, freshName('fuzzed'), { idle: { kind: 'never' } });
  await start(stack, box, 'server', 'python3 -m http.server 8000');
  const made = await expectOk(client(stack.url, 1), `${stack.url}/v0/sandboxes/${box.name}/previews`, {
    method: 'POST',
    headers: { ...stack.headers, 'content-type': 'application/json' },
    body: JSON.stringify({ metadata: { name: 'open' }, spec: { port: 8000, public: true } }),
  });
  preview = /\/preview\/([a-z0-9-]+)/.exec(made.body.toString())?.[1] ?? '';
  if (preview === '') throw new Error(`no preview's address in ${made.body.toString()}`);
  slow = beSlow();
});

afterAll(async () => {
  for (const name of ['fuzz-a', 'fuzz-b', box?.name])
    if (name)
      await api(stack)
        .delete(name)
        .catch(() => undefined); // those of the fuzz may never have been
});

const say = (text: string, options?: SendOptions) => send(stack.url, text, options);
const json = (method: string, path: string, body?: string, headers: Record<string, string> = {}) =>
  say(
    requestText(
      method,
      path
        .replace('BOX', `/${stack.workspace}/sandboxes/${box.name}`)
        .replace('NAME', box.name)
        .replace('PREVIEW', `/preview/${preview}`),
      { ...stack.headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      body,
    ),
  );

type Case = readonly [what: string, shape: Shape, status: number | readonly number[], ask: () => Promise<RawAnswer>];

const HUGE = 'x'.repeat(2 << 20);

const CASES: readonly Case[] = [
  ['control: malformed JSON', 'creation', 400, () => json('POST', '/v0/sandboxes', '{"metadata":')],
  ['control: an array where an object belongs', 'creation', 400, () => json('POST', '/v0/sandboxes', '[]')],
  ['control: wrong types', 'creation', 400, () => json('POST', '/v0/sandboxes', '{"metadata":{"name":7},"spec":"x"}')],
  [
    'control: a name that is none',
    'creation',
    400,
    () => json('POST', '/v0/sandboxes', '{"metadata":{"name":"../etc"},"spec":{}}'),
  ],
  [
    'control: unknown image',
    'creation',
    [400, 404],
    () =>
      json(
        'POST',
        '/v0/sandboxes',
        '{"metadata":{"name":"fuzz-a"},"spec":{"runtime":{"image":"nobody/has-this:latest"}}}',
      ),
  ],
  [
    'control: absurd memory',
    'creation',
    400,
    () => json('POST', '/v0/sandboxes', '{"metadata":{"name":"fuzz-a"},"spec":{"runtime":{"memory":1e15}}}'),
  ],
  [
    'control: negative memory',
    'creation',
    400,
    () => json('POST', '/v0/sandboxes', '{"metadata":{"name":"fuzz-a"},"spec":{"runtime":{"memory":-5}}}'),
  ],
  [
    'control: NUL in a value',
    'creation',
    400,
    () => json('POST', '/v0/sandboxes', '{"metadata":{"name":"fuzz-a","labels":{"a":"\\u0000"}},"spec":{}}'),
  ],
  ['control: a body of 2 MiB', 'control', 413, () => json('POST', '/v0/sandboxes', HUGE)],
  [
    'control: JSON nested 5 000 deep',
    'creation',
    400,
    () => json('POST', '/v0/sandboxes', `{"a":${'['.repeat(5_000)}${']'.repeat(5_000)}}`),
  ],
  ['control: bad escape in the path', 'control', 400, () => json('GET', '/v0/sandboxes/%zz')],
  ['control: %2F in a name', 'control', [400, 404], () => json('GET', '/v0/sandboxes/a%2Fb')],
  ['control: NUL in the path', 'control', 400, () => json('GET', '/v0/sandboxes/a%00b')],
  ['control: a wrong method', 'control', 405, () => json('PATCH', '/v0/sandboxes/NAME', '{}')],
  ['control: no such path', 'control', 404, () => json('GET', '/v0/no-such-thing')],
  ['control: a number that is none', 'control', 400, () => json('GET', '/v0/sandboxes?limit=many')],
  ['control: no key', 'control', 401, () => say(requestText('GET', '/v0/sandboxes', {}))],
  [
    'control: a wrong key',
    'control',
    401,
    () => say(requestText('GET', '/v0/sandboxes', { authorization: 'Bearer tp_00000000_wrong' })),
  ],
  [
    'control: another workspace',
    'control',
    [403, 404],
    () => json('GET', '/v0/sandboxes', undefined, { 'x-blaxel-workspace': 'elsewhere' }),
  ],
  ['run: no such sandbox', 'run', 404, () => json('GET', `/${stack.workspace}/sandboxes/never-was/process`)],
  ['run: a name that is none', 'run', 400, () => json('GET', `/${stack.workspace}/sandboxes/%2e%2e/process`)],
  ['run: no key', 'run', 401, () => say(requestText('GET', `/${stack.workspace}/sandboxes/${box.name}/process`, {}))],
  ['run: a port that is none', 'run', 400, () => json('GET', 'BOX/port/99999/')],
  ['run: a port where nobody listens', 'run', 502, () => json('GET', 'BOX/port/4/')],
  ['run: nothing there', 'run', 404, () => json('GET', '/what/is/this')],
  ['inside: malformed JSON', 'inside', 400, () => json('POST', 'BOX/process', '{"command":')],
  ['inside: wrong types', 'inside', 400, () => json('POST', 'BOX/process', '{"command":{"a":1}}')],
  ['inside: nothing to run', 'inside', 400, () => json('POST', 'BOX/process', '{}')],
  ['inside: NUL in a command', 'inside', 400, () => json('POST', 'BOX/process', '{"command":"echo \\u0000"}')],
  ['inside: an absurd time-out', 'inside', 400, () => json('POST', 'BOX/process', '{"command":"true","timeout":1e30}')],
  [
    'inside: a directory that is not there',
    'inside',
    [400, 404, 422],
    () => json('POST', 'BOX/process', '{"command":"true","workingDir":"/nowhere"}'),
  ],
  ['inside: no such process', 'inside', 404, () => json('GET', 'BOX/process/none')],
  ['inside: no such file', 'inside', 404, () => json('GET', 'BOX/filesystem/%2Fno%2Fsuch')],
  ['inside: no such file, by bare slashes', 'inside', 404, () => json('GET', 'BOX/filesystem//no//such')],
  [
    'inside: traversal to where nothing is',
    'inside',
    404,
    () => json('GET', 'BOX/filesystem/..%2F..%2F..%2F..%2Fno-such'),
  ],
  ['inside: NUL in a path', 'inside', 400, () => json('GET', 'BOX/filesystem/%2Ftmp%2Fa%00b')],
  ['inside: a bad escape', 'inside', 400, () => json('GET', 'BOX/filesystem/%zz')],
  ['inside: a path of 9 000 bytes', 'inside', [400, 414], () => json('GET', `BOX/filesystem/${'a'.repeat(9_000)}`)],
  [
    'inside: a name of 300 bytes',
    'inside',
    [400, 404, 422],
    () => json('PUT', `BOX/filesystem/%2Ftmp%2F${'a'.repeat(300)}`, '{"content":"x"}'),
  ],
  [
    'inside: write to a directory',
    'inside',
    [400, 409, 422],
    () => json('PUT', 'BOX/filesystem/%2Ftmp', '{"content":"x"}'),
  ],
  [
    'inside: a form that is none',
    'inside',
    400,
    () => json('PUT', 'BOX/filesystem/%2Ftmp%2Ff', 'no form', { 'content-type': 'multipart/form-data; boundary=x' }),
  ],
  ['inside: a wrong method', 'inside', 405, () => json('PATCH', 'BOX/process', '{}')],
  ['inside: no such path', 'inside', 404, () => json('GET', 'BOX/no-such-thing')],
  ['preview: none of the name', 'run', 404, () => json('GET', '/preview/never-was/')],
  ['preview: traversal', 'run', [400, 404], () => json('GET', '/preview/..%2f..%2f/')],
  ['trpc: malformed JSON', 'rpc', 400, () => json('POST', '/trpc/sandboxes.create', '{"name":')],
  ['trpc: wrong types', 'rpc', 400, () => json('POST', '/trpc/sandboxes.create', '{"name":7,"memoryMib":"much"}')],
  [
    'trpc: unknown image',
    'rpc',
    [400, 404],
    () => json('POST', '/trpc/sandboxes.create', '{"name":"fuzz-b","image":"nobody/has-this"}'),
  ],
  [
    'trpc: absurd sizes',
    'rpc',
    400,
    () => json('POST', '/trpc/sandboxes.create', '{"name":"fuzz-b","memoryMib":1e12,"diskMib":1e15}'),
  ],
  [
    'trpc: more disk than any node has',
    'rpc',
    [400, 503],
    () => json('POST', '/trpc/sandboxes.create', '{"name":"fuzz-b","diskMib":1000000000}'),
  ],
  ['trpc: no such procedure', 'rpc', 404, () => json('GET', '/trpc/no.such')],
  ['trpc: a wrong method', 'rpc', 405, () => json('GET', '/trpc/sandboxes.create')],
  ['trpc: input that is no JSON', 'rpc', 400, () => json('GET', '/trpc/sandboxes.get?input=%7B')],
  ['trpc: no key', 'rpc', 401, () => say(requestText('GET', '/trpc/sandboxes.list', {}))],
  ['any: a head of 40 KiB', 'run', 431, () => json('GET', '/v0/sandboxes', undefined, { 'x-big': 'y'.repeat(40_000) })],
  [
    'any: two lengths',
    'run',
    400,
    () => say('POST /v0/sandboxes HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd'),
  ],
  [
    'any: length and chunks',
    'run',
    400,
    () =>
      say('POST /v0/sandboxes HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n'),
  ],
  ['any: not HTTP', 'run', 400, () => say('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03')],
  ['any: NUL in a header', 'run', 400, () => say('GET /v0/sandboxes HTTP/1.1\r\nhost: x\r\nx-a: b\0c\r\n\r\n')],
  [
    'any: a path that begins with no slash',
    'run',
    400,
    () => say('GET v0/sandboxes HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'),
  ],
];

describe('what is wrong is refused', () => {
  it.each(CASES)('%s: in the shape "%s"', async (_, shape, status, ask) => {
    const answer = await ask();
    const isRight = [status].flat().includes(answer.status) && hasShape([shape], answer.status, answer.body);
    expect({ isRight, status: answer.status, body: answer.body.slice(0, 500) }).toMatchObject({ isRight: true });
  });

  it('while traversal, %2F and // mean to a sandbox’s own files what they mean there', async () => {
    await sh(stack, box, 'mkdir -p /tmp/real && echo -n found > /tmp/real/file');
    for (const path of [
      '%2Ftmp%2Freal%2Ffile',
      '/tmp/real/file',
      '/tmp//real/../real/file',
      '..%2Ftmp%2Freal%2Ffile',
    ]) {
      const answer = await json('GET', `BOX/filesystem/${path}`, undefined, { accept: 'application/octet-stream' });
      expect([path, answer.status, answer.body]).toEqual([path, 200, expect.stringContaining('found')]);
    }
  });
});

describe('a place where nobody listens', () => {
  it('says which port of which sandbox, at the port and behind a preview', async () => {
    const made = await expectOk(client(stack.url, 1), `${stack.url}/v0/sandboxes/${box.name}/previews`, {
      method: 'POST',
      headers: { ...stack.headers, 'content-type': 'application/json' },
      body: JSON.stringify({ metadata: { name: 'dead' }, spec: { port: 4, public: true } }),
    });
    const id = /\/preview\/([a-z0-9-]+)/.exec(made.body.toString())?.[1];
    const socket = { upgrade: 'websocket', connection: 'Upgrade' };
    for (const answer of [
      await json('GET', 'BOX/port/4/x'),
      await json('POST', 'BOX/port/4/x', 'body'),
      await json('GET', 'BOX/port/4/x', undefined, socket),
      await json('GET', `/preview/${id}/x`),
    ]) {
      expect([answer.status, answer.body]).toEqual([
        502,
        expect.stringContaining(`port 4 of sandbox \\"${box.name}\\"`),
      ]);
      expect(hasShape(['run'], answer.status, answer.body)).toBe(true);
    }
  });
});

describe('what is right', () => {
  it('reaches a program at a port byte by byte, head and body', async () => {
    const program = `
import socketserver
class Tell(socketserver.BaseRequestHandler):
    def handle(self):
        said = b""
        while not said.endswith(b"END"): said += self.request.recv(65536)
        self.request.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(said) + said)
socketserver.ThreadingTCPServer(("127.0.0.1", 8001), Tell).serve_forever()`;
    await putFile(client(stack.url, 1), stack, box, '/tmp/tell.py', program);
    await start(stack, box, 'tell', 'python3 /tmp/tell.py');
    await vi.waitFor(async () => expect((await json('POST', 'BOX/port/8001/x', 'END')).status).toBe(200), {
      timeout: 60_000,
    });
    for (const body of ['END', `${'b'.repeat(100_000)}END`]) {
      const { body: said } = await json('POST', 'BOX/port/8001/some/path', body);
      expect(said.slice(0, 27)).toBe('POST /some/path HTTP/1.1\r\nh');
      expect(said.slice(said.indexOf('\r\n\r\n') + 4)).toBe(body);
    }
  });
});

/** Begun with the suite, looked at in the end: each takes as long as its timer. */
async function beSlow(): Promise<Awaited<typeof slow>> {
  const length = { ...stack.headers, 'content-type': 'application/json', 'content-length': '100000' };
  const process = `/${stack.workspace}/sandboxes/${box.name}/process`;
  const limitMs = 90_000;
  const [head, controlBody, runBody, half] = await Promise.all([
    say('GET /v0/sandboxes HTTP/1.1\r\nhost: x\r\nx-slow: ', { trickle: { byte: 'a', everyMs: 500 }, limitMs }),
    // These two timers are longer than the quick tier has time for.
    say(requestText('POST', '/v0/sandboxes', length, '{'), {
      trickle: { byte: ' ', everyMs: 500 },
      limitMs: isFull ? limitMs : 1,
    }),
    say(requestText('POST', process, length, '{'), { limitMs: isFull ? limitMs : 1 }),
    say(requestText('POST', process, length, '{"command":'), { half: true, limitMs }),
  ]);
  return { head, 'control body': controlBody, 'run body': runBody, half };
}

describe('any of many nearly right requests', () => {
  it(
    `gets no 500, an end, and a refusal it can read (${REQUESTS} requests of seed ${SEED})`,
    { timeout: 600_000 },
    async () => {
      const places = { workspace: stack.workspace, sandbox: box.name, preview, headers: stack.headers };
      const statuses = new Map<number, number>();
      const wrong: string[] = [];
      let next = 0;
      const lane = async () => {
        for (let index = next++; index < REQUESTS; index = next++) {
          const { text, half } = fuzzedRequest(SEED, index, places);
          const answer = await say(text, { half });
          statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
          const why = troubleIn(text, half, answer);
          if (why !== undefined)
            wrong.push(
              `${why}: request ${index} of SEED=${SEED}\n${JSON.stringify(text.slice(0, 1_500))}\n→ ${answer.status} ${answer.body.slice(0, 600)}`,
            );
        }
      };
      await Promise.all(Array.from({ length: 12 }, lane));
      console.log(
        `seed ${SEED}: ${[...statuses]
          .toSorted(([a], [b]) => a - b)
          .map(([status, count]) => `${status}×${count}`)
          .join(' ')}`,
      );
      expect(wrong.slice(0, 5).join('\n\n'), `${wrong.length} of ${REQUESTS}`).toBe('');
      expect((await sh(stack, box, 'echo well')).stdout).toBe('well\n');
    },
  );
});

/** Undefined when it is as it should be. */
function troubleIn(text: string, half: boolean, { status, headers, body, tookMs }: RawAnswer): string | undefined {
  if (status === 500) return '500';
  if (status === -1) return `no end within ${tookMs.toFixed(0)} ms`;
  // A caller that closes its half, or whose bytes are no HTTP, may be left without an answer; nobody else.
  if (status === 0) return half || !text.includes('HTTP/1.1\r\n') ? undefined : 'no answer';
  if (status === 502 || status === 504) return /\/port\/|\/preview\//.test(text) ? undefined : `${status}`;
  if (status < 400 || text.startsWith('HEAD ')) return undefined;
  // What the program at a port or behind a preview answers is its own affair.
  if (/^server: SimpleHTTP/im.test(headers)) return undefined;
  return hasShape(ANY_SHAPE, status, body) ? undefined : 'a refusal in no known shape';
}

describe('who is slow or half gone', () => {
  it('hears which timer ended, or is let go at once', { timeout: 120_000 }, async () => {
    const { head, 'control body': control, 'run body': run, half } = await slow;
    expect([head.status, head.body]).toEqual([408, expect.stringContaining('request head')]);
    expect(head.tookMs).toBeLessThan(30_000);
    for (const body of isFull ? [control, run] : [])
      expect([body.status, body.body]).toEqual([408, expect.stringContaining('request body')]);
    expect(half.status).toBeLessThan(500);
    expect(half.tookMs).toBeLessThan(20_000);
    expect((await sh(stack, box, 'echo well')).stdout).toBe('well\n');
  });
});
