/** `/process`: starting, waiting, watching, ending. */
import { Failure } from '@torpor/kernel';
import { z } from 'zod';
import { guestPath, processPath } from './addresses.ts';
import { readJson } from './bodies.ts';
import { answerJson, answerStream, badRequest, recode, type DataPlaneAnswer, type Exchange } from './exchange.ts';
import { ask, discard, GuestProcess, GuestRun, openStream } from './guest-calls.ts';
import { droppedNote, NO_OUTPUT, openOutput, outputOf, type OutputEvent, type ProcessTexts } from './output.ts';
import { echoOf, guestAskOf, ProcessRequest, waitMsOf } from './process-asks.ts';
import { toBlaxelProcess } from './process-view.ts';
import { escape, jsonWithTexts } from './texts.ts';

const REQUEST_BYTES_MAX = 4 * 1024 * 1024;
const START_MS = 30_000;
/** The longest single wait that the guest takes; a longer one is several. */
const WAIT_SLICE_MS = 60 * 60_000;
/** Output up to this comes with the process itself; more is streamed. */
const INLINE_BYTES_MAX = 1024 * 1024;
/** How long to wait for ports when the caller sets no time. */
const PORTS_MS_DEFAULT = 60_000;

const JSON_TYPE = 'application/json; charset=utf-8';

export async function startProcess(exchange: Exchange): Promise<DataPlaneAnswer> {
  const request = await readJson(exchange.request, ProcessRequest, REQUEST_BYTES_MAX);
  const deadline = deadlineOf(exchange, waitMsOf(request));
  if (wants(exchange, 'text/event-stream') || wants(exchange, 'application/x-ndjson')) {
    return streamRun(exchange, await start(exchange, request), request, deadline);
  }
  const ports = request.waitForPorts ?? [];
  if (request.waitForCompletion && ports.length === 0) return run(exchange, request, deadline);

  let process = await start(exchange, request);
  if (ports.length > 0) {
    await awaitPorts(exchange, process, ports, deadline);
    process = await describe(exchange, process.id);
  }
  if (!request.waitForCompletion) return answerProcess(exchange, process, NO_OUTPUT, echoOf(request));
  process = await awaitExit(exchange, process, deadline);
  return answerProcess(
    exchange,
    process,
    await outputOf(exchange.guest, process, exchange.request.signal),
    echoOf(request),
  );
}

/** The usual command, in one call: started, waited for, and answered with its output. */
async function run(
  exchange: Exchange,
  request: ProcessRequest,
  deadline: Deadline | undefined,
): Promise<DataPlaneAnswer> {
  const waitMs = sliceMs(exchange, deadline);
  const ended = await startWith(exchange, request, GuestRun, { waitMs, outputLimit: INLINE_BYTES_MAX });
  if (ended.status === 'exited' && !ended.truncated) {
    const { stdout, stderr, logs } = ended;
    return answerProcess(exchange, ended, { stdout, stderr, logs }, echoOf(request));
  }
  const process = ended.status === 'exited' ? ended : await awaitExit(exchange, ended, deadline);
  return answerProcess(
    exchange,
    process,
    await outputOf(exchange.guest, process, exchange.request.signal),
    echoOf(request),
  );
}

function start(exchange: Exchange, request: ProcessRequest): Promise<GuestProcess> {
  return startWith(exchange, request, GuestProcess, {});
}

async function startWith<T>(
  exchange: Exchange,
  request: ProcessRequest,
  shape: z.ZodType<T>,
  more: { waitMs?: number; outputLimit?: number },
): Promise<T> {
  const { guest, workdir, chance } = exchange;
  const body: Record<string, unknown> = { ...guestAskOf(request, { workdir, chance }), ...more };
  try {
    const options = { headMs: START_MS + (more.waitMs ?? 0), signal: exchange.request.signal };
    return await ask(guest, shape, 'POST', '/v1/processes', body, options);
  } catch (error) {
    if (error instanceof Failure && error.code === 'conflict') {
      throw badRequest(`process with name '${String(body['name'])}' already exists and is running`);
    }
    throw recode(error, { not_found: 'unprocessable' }); // a working directory that is not there is no missing process
  }
}

/** When the caller's patience ends, by the clock that never steps back. */
interface Deadline {
  readonly atMs: number;
  readonly waitMs: number;
}

function deadlineOf(exchange: Exchange, waitMs: number | undefined): Deadline | undefined {
  return waitMs === undefined ? undefined : { atMs: exchange.clock.monotonicMs() + waitMs, waitMs };
}

function leftOf(exchange: Exchange, deadline: Deadline | undefined): number {
  return deadline === undefined ? Number.POSITIVE_INFINITY : Math.max(0, deadline.atMs - exchange.clock.monotonicMs());
}

function sliceMs(exchange: Exchange, deadline: Deadline | undefined): number {
  return Math.round(Math.min(leftOf(exchange, deadline), WAIT_SLICE_MS));
}

async function awaitExit(
  exchange: Exchange,
  started: GuestProcess,
  deadline: Deadline | undefined,
): Promise<GuestProcess> {
  for (;;) {
    const process = await describe(exchange, started.id, sliceMs(exchange, deadline));
    if (process.status === 'exited') return process;
    if (deadline && leftOf(exchange, deadline) <= 0) throw timedOut(started, deadline);
  }
}

function timedOut(process: GuestProcess, deadline: Deadline): Failure {
  return new Failure(
    'unprocessable',
    `process '${process.name}' (pid ${process.pid}) did not end within its timeout of ${deadline.waitMs / 1000} s; it is still running`,
  );
}

async function describe(exchange: Exchange, id: string, waitMs = 0): Promise<GuestProcess> {
  const path = guestPath(processPath(id), { waitMs: waitMs || undefined });
  return ask(exchange.guest, GuestProcess, 'GET', path, undefined, {
    headMs: START_MS + waitMs,
    signal: exchange.request.signal,
  });
}

/** Answers when something listens on all of the ports. A process that failed before will not open them: that is told at once. */
async function awaitPorts(
  exchange: Exchange,
  started: GuestProcess,
  ports: readonly number[],
  deadline: Deadline | undefined,
): Promise<void> {
  const waitMs = Math.round(
    Math.min(leftOf(exchange, deadline), deadline ? Number.POSITIVE_INFINITY : PORTS_MS_DEFAULT, WAIT_SLICE_MS),
  );
  const settled = new AbortController();
  const signal = AbortSignal.any([settled.signal, exchange.request.signal]);
  const waits = ports.map((port) =>
    exchange.guest.json('GET', guestPath(`/v1/ports/${port}/wait`, { waitMs }), undefined, {
      headMs: START_MS + waitMs,
      signal,
    }),
  );
  try {
    await Promise.race([Promise.all(waits), failureOf(exchange, started, waitMs, signal)]);
  } catch (error) {
    throw recode(error, { conflict: 'unprocessable', not_found: 'unprocessable' });
  } finally {
    settled.abort(new Error('the wait for ports is over'));
    await Promise.allSettled(waits);
  }
}

/** Rejects when the process fails; else never settles before the signal aborts. */
async function failureOf(
  exchange: Exchange,
  started: GuestProcess,
  waitMs: number,
  signal: AbortSignal,
): Promise<never> {
  const path = guestPath(processPath(started.id), { waitMs });
  const process = await ask(exchange.guest, GuestProcess, 'GET', path, undefined, {
    headMs: START_MS + waitMs,
    signal,
  });
  if (process.status === 'exited' && process.exitCode !== 0) {
    throw new Failure(
      'unprocessable',
      `process '${process.name}' ended with code ${process.exitCode} before its ports opened`,
    );
  }
  return new Promise(() => {});
}

function answerProcess(
  exchange: Exchange,
  process: GuestProcess,
  texts: ProcessTexts,
  echo: Record<string, unknown> = {},
): DataPlaneAnswer {
  const fields = { ...toBlaxelProcess(process), ...echo };
  return answerTexts(exchange, fields, texts);
}

/** JSON at once when all is known, streamed JSON else. */
function answerTexts(exchange: Exchange, fields: object, texts: ProcessTexts): DataPlaneAnswer {
  const { stdout, stderr, logs } = texts;
  if (typeof stdout === 'string' && typeof stderr === 'string' && typeof logs === 'string') {
    return answerJson({ ...fields, stdout, stderr, logs });
  }
  return answerStream(exchange, { contentType: JSON_TYPE }, () =>
    jsonWithTexts({ ...fields }, { stdout, stderr, logs }),
  );
}

// ---------------------------------------------------------------------------------------------------------------- streams

/** The NDJSON stream of a run: output as it comes, a sign of life every 5 s, and the process as the last line. */
function streamRun(
  exchange: Exchange,
  started: GuestProcess,
  request: ProcessRequest,
  deadline: Deadline | undefined,
): DataPlaneAnswer {
  return answerStream(
    exchange,
    { contentType: 'application/x-ndjson', keepAwake: 'exec stream' },
    async function* (signal) {
      const late = new AbortController();
      const bell = deadline && ring(exchange, leftOf(exchange, deadline), signal, late);
      try {
        const events = await openOutput(exchange.guest, started.id, {
          follow: true,
          signal: AbortSignal.any([signal, late.signal]),
        });
        for await (const event of events) {
          if (event.kind !== 'exit') yield ndjsonOf(event);
        }
        yield* resultOf(exchange, started, request, signal);
      } catch (error) {
        if (!late.signal.aborted || !deadline) throw error;
        yield `${JSON.stringify({ type: 'error', data: timedOut(started, deadline).message })}\n`;
      } finally {
        bell?.abort(new Error('the run has ended'));
      }
    },
  );
}

function ring(exchange: Exchange, ms: number, outer: AbortSignal, late: AbortController): AbortController {
  const bell = new AbortController();
  exchange.clock.after(ms, AbortSignal.any([bell.signal, outer])).then(
    () => late.abort(new Error('the timeout of the run has passed')),
    () => {}, // the run ended first, or the caller went
  );
  return bell;
}

function ndjsonOf(event: Exclude<OutputEvent, { kind: 'exit' }>): string {
  switch (event.kind) {
    case 'text':
      return `${JSON.stringify({ type: event.stream, data: event.text })}\n`;
    case 'dropped':
      return `${JSON.stringify({ type: event.stream, data: droppedNote(event) })}\n`;
    case 'keepalive':
      return `${JSON.stringify({ type: 'keepalive' })}\n`;
  }
}

/** The last line: the process as JSON inside JSON, escaped piece by piece. */
async function* resultOf(
  exchange: Exchange,
  started: GuestProcess,
  request: ProcessRequest,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const process = await describe(exchange, started.id);
  const texts = await outputOf(exchange.guest, process, signal);
  yield '{"type":"result","data":"';
  for await (const piece of jsonWithTexts({ ...toBlaxelProcess(process), ...echoOf(request) }, { ...texts }))
    yield escape(piece);
  yield '"}\n';
}

/** The log from its beginning, then what is added, until the process ends. */
export async function streamLogs(exchange: Exchange): Promise<DataPlaneAnswer> {
  const gone = new AbortController();
  const signal = AbortSignal.any([gone.signal, exchange.request.signal]);
  // Opened before the head is sent, so that a missing process is a 404.
  const events = await openOutput(exchange.guest, idOf(exchange), { follow: true, signal });
  const ndjson = wants(exchange, 'application/x-ndjson');
  const contentType = ndjson ? 'application/x-ndjson' : 'text/plain; charset=utf-8';
  const kind = { contentType, keepAwake: 'log stream', gone };
  return answerStream(exchange, kind, () => (ndjson ? recordsOf(events) : linesOf(events)));
}

async function* recordsOf(events: AsyncIterable<OutputEvent>): AsyncGenerator<string> {
  for await (const event of events) {
    if (event.kind !== 'exit') yield ndjsonOf(event);
  }
}

/** Each line under the name of its stream. A line that is not whole yet is sent all the same, and goes on without the name. */
async function* linesOf(events: AsyncIterable<OutputEvent>): AsyncGenerator<string> {
  let open: 'stdout' | 'stderr' | undefined;
  for await (const event of events) {
    if (event.kind === 'exit') return;
    if (event.kind === 'keepalive') {
      yield `${open ? '\n' : ''}[keepalive]\n`;
      open = undefined;
      continue;
    }
    const text = event.kind === 'text' ? event.text : droppedNote(event);
    const before = open === undefined ? `${event.stream}:` : open === event.stream ? '' : `\n${event.stream}:`;
    const whole = text.endsWith('\n');
    const inner = whole ? text.slice(0, -1) : text;
    yield `${before}${inner.replaceAll('\n', `\n${event.stream}:`)}${whole ? '\n' : ''}`;
    open = whole ? undefined : event.stream;
  }
}

// ---------------------------------------------------------------------------------------------------------------- the others

const ProcessList = z.object({ processes: z.array(GuestProcess) });

export async function listProcesses(exchange: Exchange): Promise<DataPlaneAnswer> {
  const { processes } = await ask(exchange.guest, ProcessList, 'GET', '/v1/processes', undefined, {
    signal: exchange.request.signal,
  });
  return answerJson(processes.map((process) => ({ ...toBlaxelProcess(process), ...NO_OUTPUT })));
}

export async function getProcess(exchange: Exchange): Promise<DataPlaneAnswer> {
  const process = await describe(exchange, idOf(exchange));
  return answerProcess(exchange, process, await outputOf(exchange.guest, process, exchange.request.signal));
}

export async function getLogs(exchange: Exchange): Promise<DataPlaneAnswer> {
  const process = await describe(exchange, idOf(exchange));
  return answerTexts(exchange, {}, await outputOf(exchange.guest, process, exchange.request.signal));
}

export async function stopProcess(exchange: Exchange): Promise<DataPlaneAnswer> {
  await signalProcess(exchange, 'TERM');
  return answerJson({ message: 'Process stopped successfully' });
}

export async function killProcess(exchange: Exchange): Promise<DataPlaneAnswer> {
  await signalProcess(exchange, 'KILL');
  return answerJson({ message: 'Process killed successfully' });
}

async function signalProcess(exchange: Exchange, signal: 'TERM' | 'KILL'): Promise<void> {
  const path = `${processPath(idOf(exchange))}/signal`;
  try {
    await exchange.guest.json('POST', path, { signal, group: true }, { signal: exchange.request.signal });
  } catch (error) {
    throw recode(error, { conflict: 'unprocessable' });
  }
}

export async function writeStdin(exchange: Exchange): Promise<DataPlaneAnswer> {
  const path = `${processPath(idOf(exchange))}/stdin`;
  const { body, signal } = exchange.request;
  const answer = await openStream(exchange.guest, { method: 'POST', path, body, signal, headMs: 0, bulk: true });
  discard(answer.body);
  return answerJson({ message: 'Stdin written successfully' });
}

export async function closeStdin(exchange: Exchange): Promise<DataPlaneAnswer> {
  const path = `${processPath(idOf(exchange))}/stdin`;
  await exchange.guest.json('DELETE', path, undefined, { signal: exchange.request.signal });
  return answerJson({ message: 'Stdin closed successfully' });
}

function idOf(exchange: Exchange): string {
  const id = exchange.parameters['id'] ?? '';
  if (id === '') throw badRequest('the process is not named; expected its pid or name in the path');
  return id;
}

/** Whether the caller takes this type and prefers it to plain text. */
function wants(exchange: Exchange, type: string): boolean {
  const accept = String(exchange.request.headers['accept'] ?? '');
  let asked = 0;
  let plain = 0;
  for (const item of accept.split(',')) {
    const [name = '', ...parameters] = item.split(';').map((part) => part.trim().toLowerCase());
    const quality = Number(parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? 1);
    if (name === type) asked = quality;
    if (name === 'text/plain') plain = quality;
  }
  return asked > 0 && asked >= plain;
}
