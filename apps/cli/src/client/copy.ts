/** Files and folders to and from a sandbox. */
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { Failure } from '@torpor/kernel';
import type { Client } from './client.ts';

export type Place =
  | { readonly kind: 'here'; readonly path: string }
  | { readonly kind: 'there'; readonly sandbox: string; readonly path: string };

/** `name:path` lies in a sandbox; anything else, and anything that starts with `/` or `.`, here. */
export function placeOf(text: string): Place {
  const there = /^([a-z0-9][a-z0-9-]*):(.*)$/.exec(text);
  return there?.[1] ? { kind: 'there', sandbox: there[1], path: there[2] || '.' } : { kind: 'here', path: text };
}

/** Answers how many files were copied, and their bytes. */
export async function copyFiles(client: Client, from: Place, to: Place): Promise<{ files: number; bytes: number }> {
  if (from.kind === 'here' && to.kind === 'there') return upload(client, from.path, to);
  if (from.kind === 'there' && to.kind === 'here') return download(client, from, to.path);
  throw new Failure('bad_request', 'one of the two must lie in a sandbox, written name:path, and the other here');
}

interface Metadata {
  readonly path: string;
  readonly name: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'other';
  readonly size: number;
  readonly mode: string;
}

const there = (call: string, path: string) => `/v1/files/${call}?path=${encodeURIComponent(path)}`;

async function upload(
  client: Client,
  source: string,
  to: Place & { kind: 'there' },
): Promise<{ files: number; bytes: number }> {
  const facts = await stat(source).catch((error: NodeJS.ErrnoException) => {
    throw new Failure('not_found', error.code === 'ENOENT' ? `there is no "${source}" here` : error.message);
  });
  const target = to.path.endsWith('/') || to.path === '.' ? join(to.path, basename(source)) : to.path;
  if (facts.isDirectory()) {
    let [files, bytes] = [0, 0];
    for (const name of await readdir(source)) {
      const inner = await upload(client, join(source, name), { ...to, path: join(target, name) });
      files += inner.files;
      bytes += inner.bytes;
    }
    return { files, bytes };
  }
  const mode = `0${(facts.mode & 0o777).toString(8)}`;
  const answer = await client.guest(
    to.sandbox,
    'PUT',
    `${there('content', target)}&parents=1&mode=${mode}`,
    createReadStream(source),
  );
  await answer.body.dump();
  return { files: 1, bytes: facts.size };
}

async function download(
  client: Client,
  from: Place & { kind: 'there' },
  target: string,
): Promise<{ files: number; bytes: number }> {
  const facts = await metadataOf(client, from.sandbox, from.path);
  const isFolder = await stat(target).then(
    (found) => found.isDirectory(),
    () => false, // not there yet
  );
  return fetchInto(client, from.sandbox, facts, isFolder ? join(target, facts.name) : target);
}

async function fetchInto(
  client: Client,
  sandbox: string,
  facts: Metadata,
  target: string,
): Promise<{ files: number; bytes: number }> {
  if (facts.type !== 'directory') {
    await mkdir(dirname(target), { recursive: true });
    const answer = await client.guest(sandbox, 'GET', there('content', facts.path));
    await pipeline(answer.body, createWriteStream(target, { mode: Number.parseInt(facts.mode, 8) }));
    return { files: 1, bytes: facts.size };
  }
  await mkdir(target, { recursive: true });
  const listing = await client.guest(sandbox, 'GET', there('list', facts.path));
  const { entries } = (await listing.body.json()) as { entries: Metadata[] };
  let [files, bytes] = [0, 0];
  for (const entry of entries) {
    const inner = await fetchInto(client, sandbox, entry, join(target, entry.name));
    files += inner.files;
    bytes += inner.bytes;
  }
  return { files, bytes };
}

async function metadataOf(client: Client, sandbox: string, path: string): Promise<Metadata> {
  const answer = await client.guest(sandbox, 'GET', there('stat', path));
  return (await answer.body.json()) as Metadata; // packages/guest/PROTOCOL.md
}
