/** `/filesystem/{path}`: one file or directory. */
import { Readable } from 'node:stream';
import { posix } from 'node:path';
import { Failure, randomWord } from '@torpor/kernel';
import { z } from 'zod';
import { flagOf, guestPath, locate } from './addresses.ts';
import { readJson } from './bodies.ts';
import { answerJson, answerStream, badRequest, recode, type DataPlaneAnswer, type Exchange } from './exchange.ts';
import { toBlaxelDirectory, toBlaxelFile } from './file-view.ts';
import { isForm, readForm } from './forms.ts';
import { ask, checked, GuestFile, openStream } from './guest-calls.ts';
import { decodeChunks, jsonWithTexts } from './texts.ts';

const JSON_BYTES_MAX = 64 * 1024 * 1024;
/** Writing a file ends with an fsync, which a busy disk may delay. */
const WRITE_MS = 120_000;

export const Permissions = z.string().regex(/^0?[0-7]{1,4}$/, 'expected octal digits such as 0644');

const FileRequest = z.object({
  content: z.string().nullish(),
  isDirectory: z.boolean().nullish(),
  permissions: z.preprocess((value) => (value === '' ? undefined : value), Permissions.nullish()),
});

/** In this dialect there is no 409 for files: what stands in the way is 422. */
export const FILE_CODES = { conflict: 'unprocessable' } as const;

export function pathOf(exchange: Exchange): string {
  return locate(exchange.parameters['path'] ?? '', exchange.workdir);
}

export async function readFile(exchange: Exchange): Promise<DataPlaneAnswer> {
  const path = pathOf(exchange);
  const { signal, headers } = exchange.request;
  const raw = wantsBytes(exchange);
  const range = raw ? headers['range'] : undefined;
  try {
    const answer = await openStream(exchange.guest, {
      method: 'GET',
      path: guestPath('/v1/files/content', { path }),
      ...(typeof range === 'string' ? { headers: { range } } : {}),
      signal,
      headMs: 30_000,
      bulk: true,
    });
    const file = checked(GuestFile, JSON.parse(answer.headers['x-torpor-file'] ?? 'null'), 'GET /v1/files/content');
    if (raw) return answerBytes(answer, file);
    return answerStream(exchange, { contentType: 'application/json; charset=utf-8' }, () =>
      jsonWithTexts({ ...toBlaxelFile(file) }, { content: () => decodeChunks(answer.body) }),
    );
  } catch (error) {
    // The guest calls a directory a conflict where it expects a file.
    if (error instanceof Failure && error.code === 'conflict') return readDirectory(exchange);
    throw error;
  }
}

function answerBytes(
  answer: { status: number; headers: Readonly<Record<string, string>>; body: Readable },
  file: GuestFile,
): DataPlaneAnswer {
  const passed = ['content-length', 'content-range', 'accept-ranges'].flatMap((name) => {
    const value = answer.headers[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    status: answer.status,
    headers: {
      'content-type': 'application/octet-stream',
      'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(file.name)}`,
      ...Object.fromEntries(passed),
    },
    body: answer.body,
  };
}

/** Raw bytes are for those who ask for them, and for those who take neither JSON nor anything. */
function wantsBytes(exchange: Exchange): boolean {
  if (flagOf(exchange.query, 'download', false)) return true;
  const accept = String(exchange.request.headers['accept'] ?? '').toLowerCase();
  if (accept === '') return false;
  return (
    accept.includes('application/octet-stream') || !(accept.includes('application/json') || accept.includes('*/*'))
  );
}

const Listing = z.object({ entries: z.array(GuestFile), truncated: z.boolean() });

export async function readDirectory(exchange: Exchange): Promise<DataPlaneAnswer> {
  const path = pathOf(exchange);
  try {
    const listed = await ask(
      exchange.guest,
      Listing,
      'GET',
      guestPath('/v1/files/list', { path, depth: 1 }),
      undefined,
      {
        headMs: 30_000,
        signal: exchange.request.signal,
      },
    );
    const first = listed.entries[0]?.path;
    const directory = toBlaxelDirectory(first ? posix.dirname(first) : path, listed.entries);
    return answerJson(listed.truncated ? { ...directory, truncated: true } : directory);
  } catch (error) {
    throw recode(error, FILE_CODES);
  }
}

export async function writeFile(exchange: Exchange): Promise<DataPlaneAnswer> {
  const path = pathOf(exchange);
  if (isForm(exchange.request)) return writeForm(exchange, path);
  const body = await readJson(exchange.request, FileRequest, JSON_BYTES_MAX);
  if (body.isDirectory) {
    const made = await makeDirectory(exchange, path, body.permissions ?? undefined);
    return answerJson({ path: made.path, message: 'Directory created successfully' });
  }
  const written = await putFile(exchange, path, Buffer.from(body.content ?? ''), body.permissions ?? undefined);
  return answerJson({ path: written.path, message: 'File created/updated successfully' });
}

async function makeDirectory(exchange: Exchange, path: string, mode: string | undefined): Promise<GuestFile> {
  try {
    return await ask(
      exchange.guest,
      GuestFile,
      'POST',
      '/v1/files/mkdir',
      { path, mode: mode ?? '0755', parents: true },
      {
        signal: exchange.request.signal,
      },
    );
  } catch (error) {
    throw recode(error, FILE_CODES);
  }
}

/** Writes a whole file, parents made. Without a mode it keeps the one it has, and a new file gets 0644. */
export async function putFile(
  exchange: Exchange,
  path: string,
  bytes: Buffer | Readable,
  mode: string | undefined,
): Promise<GuestFile> {
  try {
    const answer = await openStream(exchange.guest, {
      method: 'PUT',
      path: guestPath('/v1/files/content', { path, mode, parents: true }),
      headers: { 'content-type': 'application/octet-stream' },
      body: bytes,
      signal: exchange.request.signal,
      headMs: bytes instanceof Readable ? 0 : WRITE_MS,
      bulk: true,
    });
    return checked(GuestFile, JSON.parse(await textOf(answer.body)), 'PUT /v1/files/content');
  } catch (error) {
    throw recode(error, FILE_CODES);
  }
}

async function textOf(body: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString('utf8');
}

/** The SDK sends the permissions behind the file. The bytes do not wait for them: should they differ, the file is laid anew. */
async function writeForm(exchange: Exchange, path: string): Promise<DataPlaneAnswer> {
  const { fields, stored } = await readForm(exchange.request, async (file, before) => {
    const mode = modeOf(before.get('permissions'));
    return { written: await putFile(exchange, path, file, mode), mode };
  });
  const mode = modeOf(fields.get('permissions'));
  if (
    mode !== undefined &&
    mode !== stored.mode &&
    Number.parseInt(mode, 8) !== Number.parseInt(stored.written.mode, 8)
  ) {
    await changeMode(exchange, stored.written.path, mode);
  }
  return answerJson({ path: stored.written.path, message: 'Binary file uploaded successfully' });
}

function modeOf(text: string | undefined): string | undefined {
  const trimmed = text?.trim();
  if (!trimmed) return undefined;
  const parsed = Permissions.safeParse(trimmed);
  if (!parsed.success)
    throw badRequest(`permissions is ${JSON.stringify(trimmed.slice(0, 20))}; expected octal digits such as 0644`);
  return parsed.data;
}

async function changeMode(exchange: Exchange, path: string, mode: string): Promise<void> {
  const aside = `${path}.torpor-${randomWord(exchange.chance, 8)}`;
  const options = { headMs: WRITE_MS, signal: exchange.request.signal };
  await exchange.guest.json('POST', '/v1/files/move', { from: path, to: aside, overwrite: false }, options);
  await exchange.guest.json('POST', '/v1/files/assemble', { path, mode, parts: [aside], remove: true }, options);
}

export async function removeFile(exchange: Exchange): Promise<DataPlaneAnswer> {
  const path = pathOf(exchange);
  const recursive = flagOf(exchange.query, 'recursive', false);
  try {
    await exchange.guest.json('DELETE', guestPath('/v1/files', { path, recursive }), undefined, {
      headMs: WRITE_MS,
      signal: exchange.request.signal,
    });
  } catch (error) {
    throw recode(error, FILE_CODES);
  }
  return answerJson({ path, message: 'Deleted successfully' });
}
