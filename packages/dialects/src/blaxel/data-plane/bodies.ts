import type { Readable } from 'node:stream';
import { describeIssues } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { z } from 'zod';
import { badRequest, type DataPlaneRequest } from './exchange.ts';

/** Reads a JSON body and parses it. An empty body counts as `{}`. */
export async function readJson<T>(request: DataPlaneRequest, shape: z.ZodType<T>, bytesMax: number): Promise<T> {
  const text = await readText(request.body, bytesMax, 'the body');
  const parsed = shape.safeParse(parseJson(text));
  if (!parsed.success) throw badRequest(describeIssues(parsed.error));
  return parsed.data;
}

/** Reads all of a stream as UTF-8, at most so many bytes. */
export async function readText(body: Readable, bytesMax: number, what: string): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  // The stream is left whole when we stop early: destroying a request would take the answer's connection with it.
  for await (const chunk of body.iterator({ destroyOnReturn: false })) {
    const buffer = Buffer.from(chunk);
    bytes += buffer.length;
    if (bytes > bytesMax)
      throw new Failure('too_large', `${what} is larger than ${bytesMax} bytes; send files as multipart/form-data`);
    chunks.push(buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parseJson(text: string): unknown {
  if (text.trim() === '') return {};
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Failure('bad_request', `the body is no JSON: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
