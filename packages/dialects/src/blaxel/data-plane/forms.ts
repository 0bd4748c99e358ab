import type { Readable } from 'node:stream';
import { Failure } from '@torpor/kernel';
import busboy from 'busboy';
import { badRequest, type DataPlaneRequest } from './exchange.ts';

const FIELD_BYTES_MAX = 64 * 1024;
const PARTS_MAX = 100;

export interface ReadForm<T> {
  readonly fields: ReadonlyMap<string, string>;
  readonly stored: T;
}

export function isForm(request: DataPlaneRequest): boolean {
  return /^multipart\/form-data\b/i.test(String(request.headers['content-type'] ?? ''));
}

/**
 * Reads a multipart form and hands the bytes of its part `file` on as they come; nothing is held. `store` is told the fields that came before the
 * file; those that come after it are in the result. It must read the stream to its end or reject.
 */
export async function readForm<T>(
  request: DataPlaneRequest,
  store: (file: Readable, before: ReadonlyMap<string, string>) => Promise<T>,
): Promise<ReadForm<T>> {
  const parser = openParser(request);
  const fields = new Map<string, string>();
  let storing: Promise<T> | undefined;
  let storingFailed: { error: unknown } | undefined;

  parser.on('field', (name, value, info) => {
    if (info.valueTruncated)
      parser.destroy(
        badRequest(`the field ${name} is larger than ${FIELD_BYTES_MAX} bytes; send files with a filename`),
      );
    else fields.set(name, value);
  });
  parser.on('file', (name, file) => {
    if (name !== 'file' || storing) {
      file.resume(); // some other part: passed over
      return;
    }
    file.on('error', () => {}); // `store` hears it too; this keeps a late one from ending the room
    storing = store(file, new Map(fields));
    storing.catch((error: unknown) => {
      storingFailed = { error };
      file.resume();
      parser.destroy(error instanceof Error ? error : new Error(String(error)));
    });
  });
  parser.on('partsLimit', () => parser.destroy(badRequest(`the form has more than ${PARTS_MAX} parts`)));

  try {
    await feed(request, parser);
  } catch (error) {
    await storing?.catch(() => {}); // its own error is told below
    if (storingFailed && !request.signal.aborted && isCause(storingFailed.error)) throw storingFailed.error;
    if (request.signal.aborted) throw request.signal.reason;
    if (error instanceof Failure) throw error;
    throw new Failure('bad_request', `the form is broken: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
  if (!storing) throw badRequest("the form has no part 'file' with a filename");
  return { fields, stored: await storing };
}

/** Whether the storing failed by itself, rather than because the form broke off under it. */
function isCause(error: unknown): boolean {
  return error instanceof Failure && error.code !== 'unavailable';
}

/** Like `pipeline`, but leaves the request's body whole when the parser fails: the refusal still has to go out on its connection. */
function feed({ body, signal }: DataPlaneRequest, parser: busboy.Busboy): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = new AbortController();
    const fail = (error: unknown) => {
      done.abort();
      body.unpipe(parser);
      parser.destroy(error instanceof Error ? error : new Error(String(error)));
      reject(error);
    };
    const brokeOff = () => {
      if (!body.readableEnded) fail(new Error('the body broke off'));
    };
    const aborted = () => fail(signal.reason);
    body.on('error', fail);
    body.on('close', brokeOff);
    parser.on('error', fail);
    parser.on('close', () => {
      done.abort();
      resolve();
    });
    signal.addEventListener('abort', aborted, { signal: done.signal });
    done.signal.addEventListener('abort', () => {
      body.off('error', fail);
      body.off('close', brokeOff);
    });
    if (signal.aborted) aborted();
    else if (body.destroyed) brokeOff();
    else body.pipe(parser);
  });
}

function openParser(request: DataPlaneRequest): busboy.Busboy {
  const contentType = String(request.headers['content-type'] ?? '');
  try {
    return busboy({
      headers: { 'content-type': contentType },
      limits: { fieldSize: FIELD_BYTES_MAX, parts: PARTS_MAX, fields: PARTS_MAX },
      defParamCharset: 'utf8',
    });
  } catch (error) {
    throw new Failure(
      'bad_request',
      `the form cannot be read: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    );
  }
}
