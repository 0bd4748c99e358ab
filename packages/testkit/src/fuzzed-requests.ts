/** Requests that are nearly right: a lawful one of every plane, with one to three things about it made wrong. The same seed gives the same request. */
import { seededChance, type Chance } from '@torpor/kernel';
import { requestText } from './request-text.ts';

export interface Places {
  readonly workspace: string;
  readonly sandbox: string;
  /** The id of a public preview of it. */
  readonly preview: string;
  readonly headers: Readonly<Record<string, string>>;
}

export interface Fuzzed {
  readonly text: string;
  readonly half: boolean;
}

interface Draft {
  method: string;
  path: string;
  query: [string, string][];
  headers: Record<string, string>;
  body: unknown;
}

const NASTY = [
  '',
  ' ',
  '.',
  '..',
  '../../../../etc/shadow',
  '/',
  '//',
  '\\',
  '%',
  '%zz',
  '%00',
  '%2F',
  '%2e%2e%2f',
  '%ff%fe',
  '%252F',
  '\u00e9',
  '\ud83d\udca5',
  "'",
  '"',
  '`id`',
  '$(id)',
  '*',
  '~',
  '-',
  '-1',
  '0',
  '1',
  '65536',
  '1e999',
  '99999999999999999999',
  'NaN',
  'null',
  'true',
  'undefined',
  '__proto__',
  'constructor',
  'toString',
  '[]',
  '{}',
  '?',
  '#',
  '&',
  '=',
  ';',
  '<script>',
  'a'.repeat(300),
  'a'.repeat(5_000),
  '/tmp',
  '/tmp/x',
  '/proc/self/mem',
  '/dev/full',
  '/proc/1/environ',
] as const;

const VALUES: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  1.5,
  1e308,
  2 ** 53,
  [],
  {},
  [[]],
  [null],
  { a: { b: {} } },
  '\u0000',
  'a\u0000b',
  '\ud800',
  'x'.repeat(10_000),
  ...NASTY,
];

const FIELDS = [
  'metadata',
  'spec',
  'name',
  'runtime',
  'image',
  'memory',
  'envs',
  'ports',
  'ttl',
  'expires',
  'lifecycle',
  'labels',
  'port',
  'public',
  'command',
  'workingDir',
  'env',
  'waitForPorts',
  'timeout',
  'keepAlive',
  'stdin',
  'content',
  'permissions',
  'isDirectory',
  'parts',
  'uploadId',
  'scopes',
  'expiry',
  'idle',
  '__proto__',
  'constructor',
] as const;

/** `BOX`, `WS` and `PREVIEW` become the places' own; `@` in a path becomes something odd. */
export type Lawful = readonly [method: string, path: string, query?: Readonly<Record<string, string>>, body?: unknown];

const LAWFUL: readonly Lawful[] = [
  ['GET', '/v0/sandboxes', { limit: '10', cursor: 'x', sort: 'name' }],
  [
    'POST',
    '/v0/sandboxes',
    { createIfNotExist: 'true' },
    {
      metadata: { name: 'fuzz-a', labels: { a: 'b' } },
      spec: {
        runtime: {
          image: 'blaxel/none:latest',
          memory: 4096,
          envs: [{ name: 'A', value: 'b' }],
          ports: [{ target: 80 }],
          ttl: '1h',
        },
        lifecycle: { expirationPolicies: [] },
      },
    },
  ],
  ['GET', '/v0/sandboxes/BOX', { show_secrets: 'true' }],
  ['PUT', '/v0/sandboxes/fuzz-a', {}, { metadata: { name: 'fuzz-a' }, spec: {} }],
  ['DELETE', '/v0/sandboxes/fuzz-@'],
  ['GET', '/v0/sandboxes/@'],
  ['GET', '/v0/sandboxes/by-external-id/@'],
  ['GET', '/v0/sandboxes/BOX/previews'],
  [
    'POST',
    '/v0/sandboxes/BOX/previews',
    {},
    { metadata: { name: 'fuzz' }, spec: { port: 3000, public: true, responseHeaders: { a: 'b' } } },
  ],
  ['GET', '/v0/sandboxes/BOX/previews/@'],
  ['DELETE', '/v0/sandboxes/BOX/previews/fuzz'],
  ['POST', '/v0/sandboxes/BOX/previews/fuzz/tokens', {}, { spec: { expiresAt: '2030-01-01T00:00:00Z' } }],
  ['GET', '/v0/volumes/@'],
  ['GET', '/v0/@/@'],
  ['GET', '/v0/workspaces/@'],
  ['GET', '/trpc/sandboxes.list', { input: '{"limit":5}' }],
  ['GET', '/trpc/sandboxes.get', { input: '{"name":"BOX"}' }],
  [
    'POST',
    '/trpc/sandboxes.create',
    {},
    {
      name: 'fuzz-b',
      image: 'none',
      memoryMib: 512,
      cpus: 1,
      diskMib: 256,
      env: { A: 'b' },
      labels: {},
      idle: { kind: 'never' },
    },
  ],
  ['POST', '/trpc/sandboxes.pause', {}, { name: 'BOX' }],
  ['POST', '/trpc/sandboxes.resume', {}, { name: '@' }],
  ['POST', '/trpc/sandboxes.list,sandboxes.get', { batch: '1' }, { 0: {}, 1: {} }],
  ['GET', '/trpc/stats', { input: '{"sinceMs":0}' }],
  ['GET', '/trpc/@'],
  ['POST', '/trpc/keys.revoke', {}, { prefix: '@' }],
  ['GET', '/WS/sandboxes/BOX/process'],
  [
    'POST',
    '/WS/sandboxes/BOX/process',
    {},
    {
      command: 'true',
      name: 'p',
      workingDir: '/tmp',
      env: { A: 'b' },
      waitForCompletion: true,
      timeout: 2,
      waitForPorts: [],
      keepAlive: false,
      stdin: false,
    },
  ],
  ['GET', '/WS/sandboxes/BOX/process/@'],
  ['DELETE', '/WS/sandboxes/BOX/process/@'],
  ['DELETE', '/WS/sandboxes/BOX/process/@/kill'],
  ['GET', '/WS/sandboxes/BOX/process/@/logs'],
  ['GET', '/WS/sandboxes/BOX/process/p/logs/stream'],
  ['POST', '/WS/sandboxes/BOX/process/p/stdin', {}, { data: 'x' }],
  ['GET', '/WS/sandboxes/BOX/filesystem/@'],
  ['GET', '/WS/sandboxes/BOX/filesystem/%2Ftmp%2F@', { download: 'true' }],
  [
    'PUT',
    '/WS/sandboxes/BOX/filesystem/%2Ftmp%2Ffuzz%2F@',
    {},
    { content: 'x', permissions: '0644', isDirectory: false },
  ],
  ['DELETE', '/WS/sandboxes/BOX/filesystem/%2Ftmp%2Ffuzz%2F@'],
  ['GET', '/WS/sandboxes/BOX/filesystem/tree/%2Ftmp%2Ffuzz'],
  ['PUT', '/WS/sandboxes/BOX/filesystem/tree/%2Ftmp%2Ffuzz', {}, { files: { 'a.txt': 'x', '@': 'y' } }],
  [
    'GET',
    '/WS/sandboxes/BOX/filesystem-find/%2Ftmp%2Ffuzz',
    { patterns: '*.txt', type: 'file', maxResults: '5', excludeDirs: 'a,b', excludeHidden: 'true' },
  ],
  ['GET', '/WS/sandboxes/BOX/filesystem-search/%2Ftmp%2Ffuzz', { query: 'a', maxResults: '5' }],
  [
    'GET',
    '/WS/sandboxes/BOX/filesystem-content-search/%2Ftmp%2Ffuzz',
    { query: 'x', caseSensitive: 'true', contextLines: '1', maxResults: '3', filePattern: '*' },
  ],
  ['POST', '/WS/sandboxes/BOX/filesystem-multipart/initiate/%2Ftmp%2Ffuzz%2Fbig', {}, { permissions: '0600' }],
  ['PUT', '/WS/sandboxes/BOX/filesystem-multipart/@/part', { partNumber: '1' }, 'not a form'],
  ['GET', '/WS/sandboxes/BOX/filesystem-multipart/@/parts'],
  ['POST', '/WS/sandboxes/BOX/filesystem-multipart/@/complete', {}, { parts: [{ partNumber: 1, etag: 'x' }] }],
  ['DELETE', '/WS/sandboxes/BOX/filesystem-multipart/@/abort'],
  ['GET', '/WS/sandboxes/BOX/watch/filesystem/@'],
  ['GET', '/WS/sandboxes/BOX/network/process/@/ports'],
  ['GET', '/WS/sandboxes/BOX/port/8000/@'],
  ['GET', '/WS/sandboxes/BOX/port/@/x'],
  ['GET', '/WS/sandboxes/BOX/@/@'],
  ['GET', '/WS/sandboxes/@/process'],
  ['GET', '/@/sandboxes/BOX/process'],
  ['GET', '/WS/agents/@'],
  ['GET', '/preview/PREVIEW/@'],
  ['GET', '/preview/@'],
  ['POST', '/preview/PREVIEW/x', {}, { any: 'thing' }],
  ['GET', '/@/@'],
];

/** `more`: lawful requests besides those that are known here. */
export function fuzzedRequest(seed: number, index: number, places: Places, more: readonly Lawful[] = []): Fuzzed {
  const chance = seededChance(seed * 1_000_003 + index);
  const draft = draftOf(oneOf(chance, [...LAWFUL, ...more]), chance, places);
  const turns = 1 + Math.floor(chance.fraction() * 3);
  for (let turn = 0; turn < turns; turn++) oneOf(chance, MISTAKES)(draft, chance);
  const text = spoil(textOf(draft), chance);
  const cut = text.indexOf('\r\n\r\n') + 4;
  // Whoever announces more than comes must close behind it, or the answer waits for the body's timer.
  const isShort = Number(/\ncontent-length: (\d+)/.exec(text)?.[1] ?? 0) > text.length - cut;
  return { text, half: isShort || chance.fraction() < 0.02 };
}

function draftOf(lawful: Lawful, chance: Chance, { workspace, sandbox, preview, headers }: Places): Draft {
  const [method, template, query = {}, body] = lawful;
  const filled = template.replaceAll('BOX', sandbox).replaceAll('WS', workspace).replaceAll('PREVIEW', preview);
  const path = filled.replaceAll('@', () => encode(oneOf(chance, NASTY), chance));
  const entries = Object.entries(query).map(([name, value]): [string, string] => [
    name,
    value.replaceAll('BOX', sandbox),
  ]);
  return {
    method,
    path,
    query: entries,
    headers: { ...headers },
    body: body === undefined ? undefined : JSON.parse(JSON.stringify(body).replaceAll('BOX', sandbox)),
  };
}

const MISTAKES: readonly ((draft: Draft, chance: Chance) => void)[] = [
  (draft, chance) =>
    (draft.method = oneOf(chance, ['GET', 'POST', 'PUT', 'PATCH', 'HEAD', 'OPTIONS', 'TRACE', 'PROPFIND', 'M-SEARCH'])),
  (draft, chance) => {
    // Every segment but the names of planes and places, which other drafts spoil.
    const segments = draft.path.split('/');
    segments[Math.floor(chance.fraction() * segments.length)] = encode(oneOf(chance, NASTY), chance);
    draft.path = `/${segments.join('/').replace(/^\/(?!\/)/, '')}`;
  },
  (draft, chance) => {
    const at = Math.floor(chance.fraction() * (draft.query.length + 1));
    draft.query[at] = [draft.query[at]?.[0] ?? oneOf(chance, [...FIELDS, ...NASTY]), oneOf(chance, NASTY)];
  },
  (draft, chance) => {
    const name = oneOf(chance, [
      'accept',
      'content-type',
      'range',
      'x-blaxel-workspace',
      'blaxel-version',
      'x-blaxel-authorization',
      'authorization',
      'traceparent',
      'idempotency-key',
      'if-none-match',
      'expect',
      'cookie',
      'accept-encoding',
      'content-encoding',
      'x-request-id',
      'last-event-id',
      'te',
      'upgrade',
      'host',
    ]);
    draft.headers[name] = oneOf(chance, [
      'application/json',
      'multipart/form-data',
      'multipart/form-data; boundary=x',
      'text/event-stream',
      'application/octet-stream',
      'bytes=-1',
      'bytes=5-1',
      '100-continue',
      'gzip',
      'websocket',
      'Bearer x',
      '2026-04-28',
      ...NASTY,
    ]).replace(/[^\t\x20-\x7e]/g, '?');
  },
  (draft, chance) => (draft.body = spoiled(draft.body, chance)),
  (draft, chance) => (draft.body = spoiled(draft.body, chance)),
];

/** The value with something in it made wrong. */
function spoiled(value: unknown, chance: Chance): unknown {
  if (typeof value !== 'object' || value === null || chance.fraction() < 0.2) return oneOf(chance, VALUES);
  const keys = Object.keys(value);
  const key = chance.fraction() < 0.25 || keys.length === 0 ? oneOf(chance, FIELDS) : oneOf(chance, keys);
  const copy: Record<string, unknown> = { ...value };
  // By definition and not assignment, so that "__proto__" becomes a field like any other.
  Object.defineProperty(copy, key, {
    value: spoiled(copy[key], chance),
    enumerable: true,
    configurable: true,
    writable: true,
  });
  return Array.isArray(value) && chance.fraction() < 0.5 ? Object.values(copy) : copy;
}

function textOf({ method, path, query, headers, body }: Draft): string {
  const search = query.map(([name, value]) => `${percent(name)}=${percent(value)}`).join('&');
  const json = body === undefined ? undefined : Buffer.from(JSON.stringify(body)).toString('latin1');
  return requestText(
    method,
    search === '' ? path : `${path}?${search}`,
    { ...(json === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    json,
  );
}

/** Now and then the bytes themselves are wrong: cut short, too long by their own account, or not HTTP. */
function spoil(text: string, chance: Chance): string {
  const pick = chance.fraction();
  const cut = text.indexOf('\r\n\r\n') + 4;
  if (pick < 0.02) return text.slice(0, cut) + chance.bytes(60).toString('latin1');
  if (pick < 0.04)
    return `${text.slice(0, cut)}${text.slice(cut, cut + Math.floor(chance.fraction() * 80))}`.replace(
      /content-length: \d+/,
      `content-length: ${Math.max(0, Math.min(text.length - cut, 30))}`,
    );
  if (pick < 0.05) return text.replace('HTTP/1.1', oneOf(chance, ['HTTP/9.9', 'HTTP/1.0', 'ICY', '']));
  if (pick < 0.06) return text.replace('\r\n\r\n', `\r\nx-big: ${'y'.repeat(40_000)}\r\n\r\n`);
  if (pick < 0.07) return text.replace('\r\n\r\n', '\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n');
  return text;
}

/** Half of the time as a client should, else as it is, within what a request line can hold. */
function encode(text: string, chance: Chance): string {
  return chance.fraction() < 0.5
    ? percent(text)
    : Buffer.from(text)
        .toString('latin1')
        .replace(/[^\x21-\x7e\x80-\xff]|[?#]/g, (sign) => percent(sign));
}

function percent(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}

function oneOf<T>(chance: Chance, all: readonly T[]): T {
  const it = all[Math.floor(chance.fraction() * all.length)];
  if (it === undefined && !all.includes(it as T)) throw new Error('nothing to choose from'); // only an empty list has no such element
  return it as T; // an element: undefined is one only where the list holds it
}
