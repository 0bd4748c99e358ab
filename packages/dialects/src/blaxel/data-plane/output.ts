/** What processes wrote, read from the guest and told in this dialect's ways. */
import { StringDecoder } from 'node:string_decoder';
import type { Guest } from '@torpor/runtime';
import { guestPath, processPath } from './addresses.ts';
import { checked, GuestFrame, openStream, type GuestProcess } from './guest-calls.ts';
import { decodeChunks, linesOf, type TextSource } from './texts.ts';

export type StreamName = 'stdout' | 'stderr';

/** Something that happened in the output of a process, in order. Texts hold whole characters only. */
export type OutputEvent =
  | { readonly kind: 'text'; readonly stream: StreamName; readonly text: string }
  | { readonly kind: 'dropped'; readonly stream: StreamName; readonly bytes: number }
  | { readonly kind: 'keepalive' }
  | { readonly kind: 'exit' };

/** Small enough to be read at once rather than streamed. */
const SMALL_BYTES = 64 * 1024;

/**
 * Opens the output of a process from its beginning. `follow`: stays with it until it ends. Rejects with `not_found` before anything is read
 * when there is no such process.
 */
export async function openOutput(
  guest: Guest,
  id: string,
  options: { follow: boolean; signal: AbortSignal },
): Promise<AsyncGenerator<OutputEvent>> {
  const path = guestPath(`${processPath(id)}/output`, {
    stream: 'both',
    format: 'frames',
    follow: options.follow,
  });
  const answer = await openStream(guest, { method: 'GET', path, signal: options.signal, headMs: 10_000, bulk: true });
  return readEvents(answer.body);
}

async function* readEvents(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<OutputEvent> {
  const decoders = { stdout: new StringDecoder('utf8'), stderr: new StringDecoder('utf8') };
  for await (const line of linesOf(chunks)) {
    const frame = checked(GuestFrame, JSON.parse(line), 'GET output');
    if ('stream' in frame) {
      const text = decoders[frame.stream].write(Buffer.from(frame.data, 'base64'));
      if (text !== '') yield { kind: 'text', stream: frame.stream, text };
    } else if ('dropped' in frame) {
      yield { kind: 'dropped', stream: frame.dropped.stream, bytes: frame.dropped.to - frame.dropped.from };
    } else if ('keepalive' in frame) {
      yield { kind: 'keepalive' };
    } else {
      yield* rests(decoders);
      yield { kind: 'exit' };
      return;
    }
  }
  yield* rests(decoders);
}

/** What is left of characters that never became whole. */
function* rests(decoders: Record<StreamName, StringDecoder>): Generator<OutputEvent> {
  for (const stream of ['stdout', 'stderr'] as const) {
    const text = decoders[stream].end();
    if (text !== '') yield { kind: 'text', stream, text };
  }
}

/** What stands in the place of output that the cap took. */
export function droppedNote(event: { stream: StreamName; bytes: number }): string {
  return `[torpor] ${event.bytes} bytes of ${event.stream} were dropped: the log is full\n`;
}

export interface ProcessTexts {
  readonly stdout: TextSource;
  readonly stderr: TextSource;
  /** Both, in the order they came. */
  readonly logs: TextSource;
}

export const NO_OUTPUT: ProcessTexts = { stdout: '', stderr: '', logs: '' };

/** The output so far: read now when it is small, and else read while it is sent. */
export async function outputOf(guest: Guest, process: GuestProcess, signal: AbortSignal): Promise<ProcessTexts> {
  const bytes = process.stdoutBytes + process.stderrBytes;
  if (bytes === 0) return NO_OUTPUT;
  if (bytes <= SMALL_BYTES) return readAll(guest, process.id, signal);
  return {
    stdout: () => streamed(guest, process.id, 'stdout', signal),
    stderr: () => streamed(guest, process.id, 'stderr', signal),
    logs: () => interleaved(guest, process.id, signal),
  };
}

async function readAll(guest: Guest, id: string, signal: AbortSignal): Promise<ProcessTexts> {
  const texts = { stdout: '', stderr: '', logs: '' };
  for await (const event of await openOutput(guest, id, { follow: false, signal })) {
    if (event.kind === 'text') {
      texts[event.stream] += event.text;
      texts.logs += event.text;
    }
  }
  return texts;
}

async function* streamed(guest: Guest, id: string, stream: StreamName, signal: AbortSignal): AsyncGenerator<string> {
  const path = guestPath(`${processPath(id)}/output`, { stream, format: 'raw' });
  const answer = await openStream(guest, { method: 'GET', path, signal, headMs: 10_000, bulk: true });
  yield* decodeChunks(answer.body);
}

async function* interleaved(guest: Guest, id: string, signal: AbortSignal): AsyncGenerator<string> {
  for await (const event of await openOutput(guest, id, { follow: false, signal })) {
    if (event.kind === 'text') yield event.text;
  }
}
