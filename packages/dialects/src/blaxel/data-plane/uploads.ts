/**
 * `/filesystem-multipart`: a big file in parts. All that is known of an upload lies in the sandbox, below `UPLOADS`, so that it outlives sleep and
 * restarts: one directory per upload with `upload.json`, and one file per part whose name holds its number and checksum.
 */
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { Transform } from 'node:stream';
import { Failure, randomWord } from '@torpor/kernel';
import { z } from 'zod';
import { guestPath, numberOf } from './addresses.ts';
import { readJson, readText } from './bodies.ts';
import { answerJson, badRequest, recode, type DataPlaneAnswer, type Exchange } from './exchange.ts';
import { FILE_CODES, pathOf, Permissions, putFile } from './files.ts';
import { readForm } from './forms.ts';
import { ask, GuestFile, openStream } from './guest-calls.ts';

/** On the disk: a sandbox's /tmp is its memory, and parts that lay there could cost its programs their lives. */
const UPLOADS = '/var/tmp/.torpor-uploads';
const PARTS_MAX = 10_000;
const COMPLETE_BYTES_MAX = 4 * 1024 * 1024;
const ASSEMBLE_MS = 10 * 60_000;

const Upload = z.object({ path: z.string(), permissions: z.string(), initiatedAt: z.string() });
type Upload = z.infer<typeof Upload>;

interface Part {
  readonly partNumber: number;
  readonly etag: string;
  readonly size: number;
  readonly uploadedAt: string;
  readonly file: string;
}

const InitiateRequest = z.object({
  permissions: z.preprocess((value) => (value === '' ? undefined : value), Permissions.nullish()),
});

export async function initiateUpload(exchange: Exchange): Promise<DataPlaneAnswer> {
  const path = pathOf(exchange);
  const { permissions } = await readJson(exchange.request, InitiateRequest, 64 * 1024);
  const uploadId = randomWord(exchange.chance, 24);
  const upload: Upload = {
    path,
    permissions: permissions ?? '0644',
    initiatedAt: new Date(exchange.clock.nowMs()).toISOString(),
  };
  await putFile(exchange, recordOf(uploadId), Buffer.from(JSON.stringify(upload)), '0600');
  return answerJson({ uploadId, path });
}

/** Stores one part. The same part sent again takes the place of the first. */
export async function uploadPart(exchange: Exchange): Promise<DataPlaneAnswer> {
  const uploadId = uploadIdOf(exchange);
  if (!exchange.query.get('partNumber')) throw badRequest(`partNumber is missing; expected 1 to ${PARTS_MAX}`);
  const partNumber = numberOf(exchange.query, 'partNumber', 0, { min: 1, max: PARTS_MAX });
  await readUpload(exchange, uploadId);
  const incoming = posix.join(UPLOADS, uploadId, `incoming-${randomWord(exchange.chance, 12)}`);
  const md5 = createHash('md5');
  const { stored } = await readForm(exchange.request, (file) => {
    const measured = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        md5.update(chunk);
        done(null, chunk);
      },
    });
    file.once('close', () => {
      if (!file.readableEnded) measured.destroy(new Error('the form broke off'));
    });
    return putFile(exchange, incoming, file.pipe(measured), '0600');
  });
  const etag = md5.digest('hex');
  await exchange.guest.json(
    'POST',
    '/v1/files/move',
    { from: incoming, to: posix.join(UPLOADS, uploadId, partName(partNumber, etag)), overwrite: true },
    { signal: exchange.request.signal },
  );
  return answerJson({ partNumber, etag, size: stored.size });
}

const CompleteRequest = z.object({
  parts: z
    .array(z.object({ partNumber: z.int().min(1).max(PARTS_MAX), etag: z.string().max(128).nullish() }))
    .min(1, 'expected at least one part')
    .max(PARTS_MAX),
});

/** Puts the parts together in the order of their numbers; the file appears whole or not at all. */
export async function completeUpload(exchange: Exchange): Promise<DataPlaneAnswer> {
  const uploadId = uploadIdOf(exchange);
  const { parts } = await readJson(exchange.request, CompleteRequest, COMPLETE_BYTES_MAX);
  const upload = await readUpload(exchange, uploadId);
  const present = await listStored(exchange, uploadId);
  const files = parts
    .toSorted((a, b) => a.partNumber - b.partNumber)
    .map((asked, index, sorted) => {
      if (sorted[index - 1]?.partNumber === asked.partNumber)
        throw badRequest(`part ${asked.partNumber} is named twice`);
      return fileOfPart(present, asked);
    });
  try {
    const body = { path: upload.path, mode: upload.permissions, parts: files, remove: false, parents: true };
    await exchange.guest.json('POST', '/v1/files/assemble', body, {
      headMs: ASSEMBLE_MS,
      signal: exchange.request.signal,
    });
  } catch (error) {
    throw recode(error, FILE_CODES);
  }
  await removeUpload(exchange, uploadId);
  return answerJson({ path: upload.path, message: 'Multipart upload completed successfully' });
}

function fileOfPart(present: readonly Part[], asked: { partNumber: number; etag?: string | null | undefined }): string {
  const candidates = present.filter((part) => part.partNumber === asked.partNumber);
  if (candidates.length === 0) throw badRequest(`part ${asked.partNumber} was never uploaded`);
  const etag = asked.etag?.replaceAll('"', '');
  const part = etag ? candidates.find((candidate) => candidate.etag === etag) : candidates.at(-1);
  if (!part) {
    throw badRequest(
      `part ${asked.partNumber} has the etag ${candidates.at(-1)?.etag}, not ${JSON.stringify(etag)}; upload it again`,
    );
  }
  return part.file;
}

export async function abortUpload(exchange: Exchange): Promise<DataPlaneAnswer> {
  const uploadId = uploadIdOf(exchange);
  await readUpload(exchange, uploadId);
  await removeUpload(exchange, uploadId);
  return answerJson({ message: 'Multipart upload aborted successfully' });
}

export async function listParts(exchange: Exchange): Promise<DataPlaneAnswer> {
  const uploadId = uploadIdOf(exchange);
  await readUpload(exchange, uploadId);
  return answerJson({ uploadId, parts: newestOfEach(await listStored(exchange, uploadId)) });
}

export async function listUploads(exchange: Exchange): Promise<DataPlaneAnswer> {
  const ids = (await entriesOf(exchange, UPLOADS))
    .filter((entry) => entry.type === 'directory')
    .map((entry) => entry.name);
  const uploads = await Promise.all(
    ids.map(async (uploadId) => {
      try {
        const upload = await readUpload(exchange, uploadId);
        const parts = newestOfEach(await listStored(exchange, uploadId));
        return {
          uploadId,
          path: upload.path,
          permissions: Number.parseInt(upload.permissions, 8),
          initiatedAt: upload.initiatedAt,
          parts: Object.fromEntries(parts.map((part) => [part.partNumber, part])),
        };
      } catch (error) {
        if (error instanceof Failure && error.code === 'not_found') return undefined; // it ended while we looked
        throw error;
      }
    }),
  );
  return answerJson({ uploads: uploads.filter((upload) => upload !== undefined) });
}

function newestOfEach(parts: readonly Part[]): Omit<Part, 'file'>[] {
  const newest = new Map(
    parts.map(({ partNumber, etag, size, uploadedAt }) => [partNumber, { partNumber, etag, size, uploadedAt }]),
  );
  return [...newest.values()].sort((a, b) => a.partNumber - b.partNumber);
}

async function listStored(exchange: Exchange, uploadId: string): Promise<Part[]> {
  const entries = await entriesOf(exchange, posix.join(UPLOADS, uploadId));
  return entries
    .flatMap((entry): Part[] => {
      const named = /^part-(\d{5})-([0-9a-f]{32})$/.exec(entry.name);
      if (!named?.[2]) return [];
      const file = posix.join(UPLOADS, uploadId, entry.name);
      return [{ partNumber: Number(named[1]), etag: named[2], size: entry.size, uploadedAt: entry.modifiedAt, file }];
    })
    .sort((a, b) => a.uploadedAt.localeCompare(b.uploadedAt));
}

async function entriesOf(exchange: Exchange, path: string): Promise<GuestFile[]> {
  const Listing = z.object({ entries: z.array(GuestFile) });
  try {
    const call = guestPath('/v1/files/list', { path, depth: 1 });
    return (await ask(exchange.guest, Listing, 'GET', call, undefined, { signal: exchange.request.signal })).entries;
  } catch (error) {
    if (error instanceof Failure && error.code === 'not_found') return [];
    throw error;
  }
}

async function readUpload(exchange: Exchange, uploadId: string): Promise<Upload> {
  const path = guestPath('/v1/files/content', { path: recordOf(uploadId) });
  try {
    const answer = await openStream(exchange.guest, {
      method: 'GET',
      path,
      signal: exchange.request.signal,
      headMs: 10_000,
    });
    return Upload.parse(JSON.parse(await readText(answer.body, 64 * 1024, 'the record of the upload')));
  } catch (error) {
    if (error instanceof Failure && error.code !== 'not_found') throw error;
    // No record, or one that something in the sandbox has spoilt: either way this upload can go no further.
    throw new Failure('not_found', `there is no upload ${uploadId}: it was completed, aborted, or never begun`, {
      cause: error,
    });
  }
}

async function removeUpload(exchange: Exchange, uploadId: string): Promise<void> {
  const path = guestPath('/v1/files', { path: posix.join(UPLOADS, uploadId), recursive: true });
  await exchange.guest.json('DELETE', path, undefined, { headMs: 60_000, signal: exchange.request.signal });
}

function uploadIdOf(exchange: Exchange): string {
  const id = exchange.parameters['uploadId'] ?? '';
  if (!/^[a-z0-9]{8,64}$/.test(id))
    throw new Failure('not_found', `there is no upload ${JSON.stringify(id.slice(0, 80))}`);
  return id;
}

function recordOf(uploadId: string): string {
  return posix.join(UPLOADS, uploadId, 'upload.json');
}

function partName(partNumber: number, etag: string): string {
  return `part-${String(partNumber).padStart(5, '0')}-${etag}`;
}
