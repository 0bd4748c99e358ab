/** A JSON body from outside, read within limits: of size, of time, of depth, and of signs that the database would not take. */
import type { IncomingMessage } from 'node:http';
import { Failure, withDeadline, type Clock } from '@torpor/kernel';

export interface JsonLimits {
  readonly clock: Clock;
  readonly bytesMax: number;
  readonly ms: number;
}

export const DEPTH_MAX = 64;

/** Undefined when there is no body. Rejects with `bad_request`, `too_large` or `request_timeout`. */
export async function readJson(request: IncomingMessage, limits: JsonLimits): Promise<unknown> {
  const bytes = await readBytes(request, limits);
  if (bytes.length === 0) return undefined;
  const value = parse(bytes);
  check(value);
  return value;
}

async function readBytes(request: IncomingMessage, { clock, bytesMax, ms }: JsonLimits): Promise<Buffer> {
  if (Number(request.headers['content-length'] ?? 0) > bytesMax) throw tooLarge(bytesMax);
  try {
    return await withDeadline({ name: 'request body', ms, clock }, () => collect(request, bytesMax));
  } catch (error) {
    if (error instanceof Failure && error.code === 'deadline_exceeded') {
      throw new Failure('request_timeout', `the timer "request body" ended: the body was not complete after ${ms} ms`, {
        retryable: true,
        cause: error,
      });
    }
    throw error;
  }
}

function collect(request: IncomingMessage, bytesMax: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > bytesMax) reject(tooLarge(bytesMax));
      else chunks.push(chunk);
    });
    request.once('end', () => resolve(Buffer.concat(chunks)));
    const gone = (cause?: Error) => reject(new Failure('client_closed', 'the caller left within its body', { cause }));
    request.once('error', gone);
    request.once('close', () => gone());
  });
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    const why = error instanceof Error ? error.message.slice(0, 200) : 'unreadable';
    throw new Failure('bad_request', `the body is not JSON in UTF-8: ${why}`, { cause: error });
  }
}

function check(root: unknown): void {
  const left: { value: unknown; depth: number }[] = [{ value: root, depth: 0 }];
  for (let next = left.pop(); next; next = left.pop()) {
    const { value, depth } = next;
    if (depth > DEPTH_MAX) throw new Failure('bad_request', `the body is nested deeper than ${DEPTH_MAX} levels`);
    if (typeof value === 'string') checkText(value);
    else if (typeof value === 'object' && value !== null) {
      for (const [key, inner] of Object.entries(value)) {
        checkText(key);
        left.push({ value: inner, depth: depth + 1 });
      }
    }
  }
}

/** Throws `bad_request` for text that is no Unicode or holds a NUL. */
export function checkText(text: string): void {
  if (text.includes('\0') || !text.isWellFormed()) {
    throw new Failure(
      'bad_request',
      'a text holds a NUL or half a surrogate pair; expected whole Unicode signs without NUL',
    );
  }
}

function tooLarge(bytesMax: number): Failure {
  return new Failure('too_large', `the body is larger than ${bytesMax} bytes, the most that this route takes`);
}
