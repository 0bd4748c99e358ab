/** `POST /process`: starting one, and waiting for its end or its ports if asked to. */
import { Failure } from '@torpor/kernel';
import type { z } from 'zod';
import { guestPath, processPath } from './addresses.ts';
import { readJson } from './bodies.ts';
import { badRequest, recode, type DataPlaneAnswer, type Exchange } from './exchange.ts';
import { ask, GuestProcess, GuestRun } from './guest-calls.ts';
import { NO_OUTPUT, outputOf } from './output.ts';
import { echoOf, guestAskOf, ProcessRequest, waitMsOf } from './process-asks.ts';
import { deadlineOf, HEAD_MS, leftOf, sliceMs, timedOut, WAIT_SLICE_MS, type Deadline } from './process-patience.ts';
import { streamRun, wants } from './process-streams.ts';
import { answerProcess, describe } from './processes.ts';

const REQUEST_BYTES_MAX = 4 * 1024 * 1024;
/** Output up to this comes with the process itself; more is streamed. */
const INLINE_BYTES_MAX = 1024 * 1024;
/** How long to wait for ports when the caller sets no time. */
const PORTS_MS_DEFAULT = 60_000;

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
    const options = { headMs: HEAD_MS + (more.waitMs ?? 0), signal: exchange.request.signal };
    return await ask(guest, shape, 'POST', '/v1/processes', body, options);
  } catch (error) {
    if (error instanceof Failure && error.code === 'conflict') {
      throw badRequest(`process with name '${String(body['name'])}' already exists and is running`);
    }
    throw recode(error, { not_found: 'unprocessable' }); // a working directory that is not there is no missing process
  }
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
      headMs: HEAD_MS + waitMs,
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
    headMs: HEAD_MS + waitMs,
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
