/** Bad input over all routes: whatever comes, the answer is a clear 4xx or better, in a shape that clients read, and never a 500. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { seededChance } from '@torpor/kernel';
import { rehearse, type Rehearsal } from './rehearsal.ts';

/** Longer than any of the timers: who says nothing for so long has forgotten the caller. */
const HANG_MS = 4_000;

export function rehearseForFuzz(store?: Rehearsal['store']): Promise<Rehearsal> {
  return rehearse({ ...(store && { store }), limits: { bodyIdleMs: 200, headMs: 300, controlBodyMs: 300 } });
}

/** Sends so many requests of the seed. Answers how often each status came, and what should not have come at all. */
export async function fuzz(
  stage: Rehearsal,
  seed: number,
  requests: number,
): Promise<{ statuses: ReadonlyMap<number, number>; wrong: readonly string[] }> {
  const chance = seededChance(seed);
  const statuses = new Map<number, number>();
  const wrong: string[] = [];
  stage.answer = (request, response) => {
    request.resume();
    response.end('{}');
  };
  const lanes = Array.from({ length: 16 }, async (_, lane) => {
    for (let i = lane; i < requests; i += 16) {
      const text = requestOf(chance, stage.apiKey);
      const answer = await exchange(stage.gateway.port, text);
      const status = Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 0);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      const isWrong = status === 500 || answer.startsWith('HUNG') || (status >= 400 && !isClear(answer));
      if (isWrong) wrong.push(`${JSON.stringify(text.slice(0, 600))}\n→ ${answer.slice(0, 600)}`);
    }
  });
  await Promise.all(lanes);
  return { statuses, wrong };
}

/** JSON with a message, in whichever of the shapes. */
function isClear(answer: string): boolean {
  const cut = answer.indexOf('\r\n\r\n');
  if (/^HTTP\/1\.1 \d+ [^\r]*\r\n/.test(answer) && answer.length === cut + 4) return true; // HEAD has no body
  return /"message":"(?:[^"\\]|\\.){5,}/.test(answer.slice(cut));
}

async function exchange(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let said = '';
  socket.on('data', (bytes: Buffer) => (said += bytes.toString('latin1'))).on('error', () => undefined);
  socket.write(Buffer.from(text, 'latin1'));
  if (text.endsWith('\u0000half')) socket.end();
  socket.setTimeout(HANG_MS, () => {
    said = `HUNG after ${said}`;
    socket.destroy();
  });
  await once(socket, 'close');
  return said;
}

type Pick = ReturnType<typeof seededChance>;

function oneOf<T>(chance: Pick, all: readonly T[]): T {
  const it = all[Math.floor(chance.fraction() * all.length)];
  if (it === undefined) throw new Error('nothing to choose from');
  return it;
}

const NASTY = [
  '..',
  '%2e%2e',
  '%2F',
  '%',
  '%zz',
  '%00',
  '//',
  '\\',
  ';',
  'a'.repeat(300),
  '%ff%fe',
  'é',
  '💥',
  "'",
  '"',
  '<script>',
  '$(id)',
  '-',
  '0',
  '-1',
  '99999999999999999999',
  'null',
  'undefined',
  '__proto__',
  'constructor',
  '.',
  ' ',
  '?',
  '#',
  '&',
  '=',
  '[]',
  '{}',
  '*',
  '~',
  '%20',
] as const;

const PATHS = [
  '/v0/sandboxes',
  '/v0/sandboxes/box',
  '/v0/sandboxes/@',
  '/v0/sandboxes/by-external-id/@',
  '/v0/sandboxes/box/previews',
  '/v0/sandboxes/box/previews/@',
  '/v0/sandboxes/box/previews/@/tokens',
  '/v0/sandboxes/box/previews/@/tokens/@',
  '/v0/workspaces',
  '/v0/workspaces/@',
  '/v0/quotas/account/@',
  '/v0/@',
  '/v0/volumes/@',
  '/v0/jobs/@/executions',
  '/main/sandboxes/box/process',
  '/main/sandboxes/box/filesystem/@',
  '/main/sandboxes/box/port/@/x',
  '/main/sandboxes/@/process',
  '/@/sandboxes/box/process',
  '/main/agents/@',
  '/preview/@',
  '/preview/@/x',
  '/trpc/sandboxes.list',
  '/trpc/sandboxes.get',
  '/trpc/sandboxes.create',
  '/trpc/keys.create',
  '/trpc/@',
  '/@',
  '/',
  '/healthz',
  '/x/v0/sandboxes',
  '/main/sandboxes/box/-/v1/@',
] as const;

const QUERIES = [
  'limit',
  'cursor',
  'sort',
  'q',
  'anchor',
  'status',
  'externalId',
  'showTerminated',
  'createIfNotExist',
  'force',
  'show_secrets',
  'workspace',
  'input',
  'batch',
  'bl_preview_token',
];

function requestOf(chance: Pick, apiKey: string): string {
  const method = oneOf(chance, [
    'GET',
    'GET',
    'POST',
    'POST',
    'PUT',
    'DELETE',
    'PATCH',
    'OPTIONS',
    'HEAD',
    'PROPFIND',
    'TRACE',
  ]);
  const wild = () =>
    chance.fraction() < 0.3 ? oneOf(chance, ['box', 'a', 'main']) : encodeNasty(oneOf(chance, NASTY));
  let path = oneOf(chance, PATHS).replaceAll('@', wild);
  if (chance.fraction() < 0.5) path += `?${oneOf(chance, QUERIES)}=${encodeNasty(oneOf(chance, NASTY))}`;
  const headers = ['host: x', 'connection: close'];
  if (chance.fraction() < 0.85)
    headers.push(`${oneOf(chance, ['x-blaxel-authorization', 'authorization'])}: Bearer ${apiKey}`);
  else
    headers.push(
      `authorization: ${oneOf(chance, ['', 'Bearer', 'Bearer  ', `Basic ${apiKey}`, 'Bearer tp_a_b', `Bearer ${apiKey}x`])}`,
    );
  if (chance.fraction() < 0.2) headers.push(`x-blaxel-workspace: ${headerSafe(oneOf(chance, NASTY))}`);
  if (chance.fraction() < 0.2)
    headers.push(`blaxel-version: ${headerSafe(oneOf(chance, ['2026-04-28', '2026-04-16.preview', ...NASTY]))}`);
  if (chance.fraction() < 0.1) headers.push(`idempotency-key: ${headerSafe(oneOf(chance, NASTY))}`);
  if (chance.fraction() < 0.1)
    headers.push(
      `traceparent: ${headerSafe(oneOf(chance, NASTY))}`,
      `x-request-id: ${headerSafe(oneOf(chance, NASTY))}`,
    );
  if (chance.fraction() < 0.05) headers.push('connection: upgrade', 'upgrade: websocket');
  const body = /^(GET|HEAD|OPTIONS|DELETE|TRACE)$/.test(method) && chance.fraction() < 0.9 ? '' : bodyOf(chance);
  const end = chance.fraction() < 0.02 ? '\u0000half' : '';
  if (body !== '' || chance.fraction() < 0.3) {
    const length = Buffer.byteLength(body, 'latin1') + (chance.fraction() < 0.03 ? 5 : 0);
    headers.push('content-type: application/json', `content-length: ${length}`);
  }
  return `${method} ${path} HTTP/1.1\r\n${headers.join('\r\n')}\r\n\r\n${body}${end}`;
}

function bodyOf(chance: Pick): string {
  const value = (depth: number): unknown => {
    const pick = chance.fraction();
    if (depth > 3 || pick < 0.35)
      return oneOf<unknown>(chance, [
        null,
        true,
        0,
        -1,
        1e308,
        1.5,
        '',
        'box',
        'blaxel/base-image',
        '1s',
        '2026-01-01',
        [],
        {},
        ...NASTY,
      ]);
    if (pick < 0.45) return [value(depth + 1), value(depth + 1)];
    const keys = [
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
      'responseHeaders',
      'value',
      '__proto__',
      'externalId',
      'json',
      '0',
    ];
    return Object.fromEntries(
      Array.from({ length: 1 + Math.floor(chance.fraction() * 4) }, () => [oneOf(chance, keys), value(depth + 1)]),
    );
  };
  const shaped = () => ({
    metadata: { name: oneOf(chance, ['fuzz-a', 'fuzz-b', ...NASTY]), labels: value(2), externalId: value(3) },
    spec: {
      port: value(3),
      public: false,
      responseHeaders: value(2),
      runtime: { image: value(3), memory: value(3), envs: value(1), ports: value(1), ttl: value(3) },
      lifecycle: value(1),
    },
  });
  const pick = chance.fraction();
  const text = JSON.stringify(pick < 0.5 ? value(0) : shaped()) ?? '';
  if (pick > 0.95) return text.slice(0, Math.floor(chance.fraction() * text.length));
  if (pick > 0.93) return chance.bytes(40).toString('latin1');
  if (pick > 0.92) return `{"metadata":${'['.repeat(3_000)}${']'.repeat(3_000)}}`;
  return text.replace(/[\u0080-\uffff]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function encodeNasty(text: string): string {
  return text.replace(/[^\x21-\x7e]/g, (sign) => Buffer.from(sign).toString('latin1').replaceAll(' ', '+'));
}

function headerSafe(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?');
}
