import { Readable } from 'node:stream';
import type { GuestAnswer } from '../guest.ts';
import { bytesAnswer, errorAnswer, jsonAnswer } from './answer.ts';
import { guestError } from './files.ts';
import { afterInside } from './inside.ts';
import type { FakeMachine } from './machine.ts';
import { applyFake } from './merge.ts';
import type { FakeProcess, FakeStream } from './process.ts';

/** One call of packages/guest/PROTOCOL.md, with its body read. */
export interface FakeCall {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

type Handler = (machine: FakeMachine, call: FakeCall, parts: readonly string[]) => GuestAnswer | Promise<GuestAnswer>;

const ROUTES: readonly (readonly [string, RegExp, Handler])[] = [
  ['GET', /^\/v1\/health$/, health],
  ['POST', /^\/v1\/identity$/, claim],
  ['POST', /^\/v1\/generation$/, advance],
  ['GET', /^\/v1\/busy$/, busy],
  ['GET', /^\/v1\/census$/, census],
  ['GET', /^\/v1\/metrics$/, metrics],
  ['POST', /^\/v1\/processes$/, startProcess],
  [
    'GET',
    /^\/v1\/processes$/,
    (machine) => jsonAnswer({ processes: machine.processes.map((p) => p.facts(machine.workdir)) }),
  ],
  ['GET', /^\/v1\/processes\/([^/]+)$/, getProcess],
  ['GET', /^\/v1\/processes\/([^/]+)\/output$/, output],
  ['POST', /^\/v1\/processes\/([^/]+)\/signal$/, signal],
  ['POST', /^\/v1\/processes\/([^/]+)\/stdin$/, feed],
  ['DELETE', /^\/v1\/processes\/([^/]+)\/stdin$/, endInput],
  [
    'POST',
    /^\/v1\/processes\/([^/]+)\/resize$/,
    (machine, _call, [key = '']) => (machine.process(key), jsonAnswer({})),
  ],
  ['GET', /^\/v1\/files\/stat$/, (machine, call) => jsonAnswer(machine.files.stat(pathOf(machine, call)))],
  ['GET', /^\/v1\/files\/list$/, list],
  ['GET', /^\/v1\/files\/content$/, readFile],
  ['PUT', /^\/v1\/files\/content$/, writeFile],
  ['POST', /^\/v1\/files\/assemble$/, assemble],
  ['POST', /^\/v1\/files\/mkdir$/, mkdir],
  ['POST', /^\/v1\/files\/apply$/, (machine, call) => jsonAnswer(applyFake(machine.files, call.body))],
  ['POST', /^\/v1\/files\/move$/, move],
  ['DELETE', /^\/v1\/files$/, remove],
  ['GET', /^\/v1\/mounts$/, (machine) => jsonAnswer({ mounts: machine.mounts })],
  ['POST', /^\/v1\/mounts$/, (machine, call) => jsonAnswer(machine.mount(json(call)))],
  [
    'DELETE',
    /^\/v1\/mounts$/,
    (machine, call) => (machine.unmount(machine.resolve(call.query.get('target') ?? '')), jsonAnswer({})),
  ],
  ['GET', /^\/v1\/ports$/, ports],
  ['GET', /^\/v1\/ports\/(\d+)\/wait$/, waitPort],
];

/** What the fake guest answers, errors included. */
export async function answerCall(machine: FakeMachine, token: string, call: FakeCall): Promise<GuestAnswer> {
  if (!machine.accepts(token)) return errorAnswer(guestError(401, 'unauthorized', 'the token is not the one expected'));
  try {
    for (const [method, pattern, handle] of ROUTES) {
      const match = pattern.exec(call.path);
      if (match && method === call.method) return await handle(machine, call, match.slice(1).map(decodeURIComponent));
    }
    throw guestError(404, 'not_found', `the fake guest has no call ${call.method} ${call.path}`);
  } catch (error) {
    if (error instanceof Error && 'code' in error) return errorAnswer(error as ReturnType<typeof guestError>); // thrown by guestError
    throw error;
  }
}

function health(machine: FakeMachine): GuestAnswer {
  return jsonAnswer({
    ready: true,
    version: 'fake',
    claimed: machine.identity !== undefined,
    generation: machine.identity?.generation ?? 0,
    uptimeMs: machine.inside.clock.nowMs() - machine.startedAtMs,
    processes: machine.running.length,
  });
}

function claim(machine: FakeMachine, call: FakeCall): GuestAnswer {
  machine.claim(json(call));
  return jsonAnswer({});
}

function advance(machine: FakeMachine, call: FakeCall): GuestAnswer {
  machine.advance(json<{ generation: number }>(call).generation);
  return jsonAnswer({});
}

async function busy(machine: FakeMachine, call: FakeCall): Promise<GuestAnswer> {
  if (call.query.get('until') === 'idle') {
    const wait = number(call, 'timeoutMs', 0);
    await until(machine, wait, () => machine.keepAlive === 0, machine.running);
  }
  return jsonAnswer({ keepAlive: machine.keepAlive, processes: machine.running.length });
}

function census(machine: FakeMachine): GuestAnswer {
  const file = '/run/torpor/generation';
  return jsonAnswer({
    atMs: machine.inside.clock.nowMs(),
    generation: machine.identity?.generation ?? 0,
    published: machine.files.exists(file) ? Number(machine.files.read(file).toString('utf8')) : null,
    processes: machine.running.map(({ id, pid, start }) => ({ id, pid, name: start.name ?? '' })),
    ports: portsOf(machine),
  });
}

function metrics(machine: FakeMachine): GuestAnswer {
  return jsonAnswer({
    memory: { totalBytes: 1 << 29, usedBytes: (30 + machine.running.length) << 20 },
    cpu: { usageMs: machine.processes.length },
    processes: machine.running.length,
    openFiles: 10,
    disk: { usedBytes: machine.files.usedBytes, totalBytes: 1 << 30 },
  });
}

async function startProcess(machine: FakeMachine, call: FakeCall): Promise<GuestAnswer> {
  const start = json<FakeProcess['start']>(call);
  const process = machine.start(start);
  if (start.waitMs === undefined) return jsonAnswer(process.facts(machine.workdir));
  await until(machine, start.waitMs, () => !process.isRunning, [process]);
  const limit = start.outputLimit ?? 4 << 20;
  const stdout = process.text(['stdout'], limit);
  const stderr = process.text(['stderr'], limit);
  const logs = process.text(['stdout', 'stderr'], limit);
  return jsonAnswer({
    ...process.facts(machine.workdir),
    stdout: stdout.text,
    stderr: stderr.text,
    logs: logs.text,
    truncated: stdout.truncated || stderr.truncated || logs.truncated,
  });
}

async function getProcess(machine: FakeMachine, call: FakeCall, [key = '']: readonly string[]): Promise<GuestAnswer> {
  const process = machine.process(key);
  const waitMs = number(call, 'waitMs', 0);
  if (waitMs > 0) await until(machine, waitMs, () => !process.isRunning, [process]);
  return jsonAnswer(process.facts(machine.workdir));
}

function output(machine: FakeMachine, call: FakeCall, [key = '']: readonly string[]): GuestAnswer {
  const process = machine.process(key);
  const wanted = call.query.get('stream') ?? 'both';
  const streams: readonly FakeStream[] = wanted === 'stdout' || wanted === 'stderr' ? [wanted] : ['stdout', 'stderr'];
  const frames = call.query.get('format') === 'frames';
  const follow = call.query.get('follow') === '1';
  const chunks = outputOf(machine, process, { streams, from: number(call, 'from', 0), follow, frames });
  return {
    status: 200,
    headers: { 'content-type': frames ? 'application/x-ndjson' : 'application/octet-stream' },
    body: Readable.from(chunks, { objectMode: false }),
  };
}

async function* outputOf(
  machine: FakeMachine,
  process: FakeProcess,
  wanted: { streams: readonly FakeStream[]; from: number; follow: boolean; frames: boolean },
): AsyncGenerator<Buffer> {
  for (let sent = 0; ;) {
    await machine.inside.gate.passed();
    const change = process.changes.next();
    for (const item of process.outputs.slice(sent)) {
      const skip = Math.max(0, wanted.from - item.offset);
      if (!wanted.streams.includes(item.stream) || skip >= item.data.length) continue;
      const data = item.data.subarray(skip);
      const { stream } = item;
      yield wanted.frames ? line({ stream, offset: item.offset + skip, data: data.toString('base64') }) : data;
    }
    sent = process.outputs.length;
    if (!process.isRunning) break;
    if (!wanted.follow) return;
    await change;
  }
  if (wanted.frames) yield line({ exit: { code: process.exitCode, signal: process.exitSignal ?? null } });
}

function signal(machine: FakeMachine, call: FakeCall, [key = '']: readonly string[]): GuestAnswer {
  const process = machine.process(key);
  if (!process.isRunning) throw guestError(409, 'conflict', `the process "${key}" has ended already`);
  process.signal(json<{ signal: string }>(call).signal, machine.inside.clock.nowMs());
  return jsonAnswer({});
}

function feed(machine: FakeMachine, call: FakeCall, [key = '']: readonly string[]): GuestAnswer {
  if (!machine.process(key).feed(call.body)) throw guestError(409, 'conflict', `the stdin of "${key}" is not open`);
  return jsonAnswer({});
}

function endInput(machine: FakeMachine, _call: FakeCall, [key = '']: readonly string[]): GuestAnswer {
  machine.process(key).endInput();
  return jsonAnswer({});
}

function list(machine: FakeMachine, call: FakeCall): GuestAnswer {
  return jsonAnswer({ entries: machine.files.list(pathOf(machine, call), number(call, 'depth', 1)), truncated: false });
}

function readFile(machine: FakeMachine, call: FakeCall): GuestAnswer {
  const path = pathOf(machine, call);
  const bytes = machine.files.read(path);
  const headers = { 'x-torpor-file': JSON.stringify(machine.files.stat(path)), 'accept-ranges': 'bytes' };
  const range = /^bytes=(\d+)-(\d*)$/.exec(call.headers['range'] ?? '');
  if (!range) return bytesAnswer(bytes, 200, headers);
  const from = Number(range[1]);
  const to = range[2] ? Math.min(Number(range[2]), bytes.length - 1) : bytes.length - 1;
  return bytesAnswer(bytes.subarray(from, to + 1), 206, {
    ...headers,
    'content-range': `bytes ${from}-${to}/${bytes.length}`,
  });
}

function writeFile(machine: FakeMachine, call: FakeCall): GuestAnswer {
  const path = pathOf(machine, call);
  const mode = call.query.get('mode');
  const parents = call.query.get('parents') === '1';
  machine.files.write(path, call.body, {
    parents,
    append: call.query.get('append') === '1',
    ...(mode ? { mode } : {}),
  });
  return jsonAnswer(machine.files.stat(path));
}

function assemble(machine: FakeMachine, call: FakeCall): GuestAnswer {
  const wanted = json<{ path: string; mode?: string; parts: string[]; remove?: boolean }>(call);
  const parts = wanted.parts.map((part) => machine.resolve(part));
  const path = machine.resolve(wanted.path);
  const bytes = Buffer.concat(parts.map((part) => machine.files.read(part)));
  machine.files.write(path, bytes, { parents: true, ...(wanted.mode ? { mode: wanted.mode } : {}) });
  if (wanted.remove) for (const part of parts) machine.files.remove(part, false);
  return jsonAnswer(machine.files.stat(path));
}

function mkdir(machine: FakeMachine, call: FakeCall): GuestAnswer {
  const wanted = json<{ path: string; mode?: string; parents?: boolean }>(call);
  const path = machine.resolve(wanted.path);
  machine.files.mkdir(path, wanted.mode, wanted.parents ?? false);
  return jsonAnswer(machine.files.stat(path));
}

function move(machine: FakeMachine, call: FakeCall): GuestAnswer {
  const wanted = json<{ from: string; to: string; overwrite?: boolean }>(call);
  machine.files.move(machine.resolve(wanted.from), machine.resolve(wanted.to), wanted.overwrite ?? false);
  return jsonAnswer(machine.files.stat(machine.resolve(wanted.to)));
}

function remove(machine: FakeMachine, call: FakeCall): GuestAnswer {
  machine.files.remove(pathOf(machine, call), call.query.get('recursive') === '1');
  return jsonAnswer({});
}

function ports(machine: FakeMachine): GuestAnswer {
  return jsonAnswer({ ports: portsOf(machine) });
}

function portsOf(machine: FakeMachine) {
  return Array.from(machine.listeners, ([port, { process }]) => {
    return { port, address: '127.0.0.1', pid: process.pid, processId: process.id };
  });
}

async function waitPort(machine: FakeMachine, call: FakeCall, [port = '']: readonly string[]): Promise<GuestAnswer> {
  const waitMs = number(call, 'waitMs', 0);
  await until(machine, waitMs, () => machine.listeners.has(Number(port)), machine.running);
  if (!machine.listeners.has(Number(port))) {
    throw guestError(422, 'failed', `nothing listens on port ${port} after ${waitMs} ms`);
  }
  return jsonAnswer({});
}

/** Waits until `met`, looking again whenever one of the processes changes, at most so long in the time inside. */
async function until(
  machine: FakeMachine,
  waitMs: number,
  met: () => boolean,
  watched: readonly FakeProcess[],
): Promise<void> {
  const over = new AbortController();
  const bell = { rang: false };
  const ring = () => void (bell.rang = true);
  const late = afterInside(machine.inside, waitMs, over.signal).then(ring, ring); // rejected: the condition was met first
  while (!met() && !bell.rang) await Promise.race([late, ...watched.map((process) => process.changes.next())]);
  over.abort(new Error('the condition was met'));
  await machine.inside.gate.passed();
}

function pathOf(machine: FakeMachine, call: FakeCall): string {
  return machine.resolve(call.query.get('path') ?? '');
}

function number(call: FakeCall, name: string, otherwise: number): number {
  const value = Number(call.query.get(name) ?? otherwise);
  if (!Number.isFinite(value)) throw guestError(400, 'bad_request', `${name} is not a number`);
  return value;
}

function json<T>(call: FakeCall): T {
  try {
    return JSON.parse(call.body.toString('utf8')) as T; // the fake trusts its own tests with the shape
  } catch {
    throw guestError(400, 'bad_request', 'the body is not JSON');
  }
}

function line(value: unknown): Buffer {
  return Buffer.from(`${JSON.stringify(value)}\n`);
}
