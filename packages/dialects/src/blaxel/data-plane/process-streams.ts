/** What processes write, as it comes: the stream of a run, and the stream of a log. */
import { answerStream, type DataPlaneAnswer, type Exchange } from './exchange.ts';
import type { GuestProcess } from './guest-calls.ts';
import { droppedNote, openOutput, outputOf, type OutputEvent } from './output.ts';
import { echoOf, type ProcessRequest } from './process-asks.ts';
import { leftOf, timedOut, type Deadline } from './process-patience.ts';
import { toBlaxelProcess } from './process-view.ts';
import { describe, idOf } from './processes.ts';
import { escape, jsonWithTexts } from './texts.ts';

/** The NDJSON stream of a run: output as it comes, a sign of life every 5 s, and the process as the last line. */
export function streamRun(
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

/** Whether the caller takes this type and prefers it to plain text. */
export function wants(exchange: Exchange, type: string): boolean {
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
