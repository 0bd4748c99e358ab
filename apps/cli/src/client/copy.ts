/**
 * Files, folders and links to and from a sandbox. A link is followed where it was named itself, and a link in a folder stays one, so that nothing comes
 * along from outside of the folder. What is none of the three, such as a socket, is left out and told. A sandbox is a stranger: what it says of its
 * files is checked before anything is written here by it, and nothing is written through a link that may be its own.
 */
import { constants, createReadStream, type Stats } from 'node:fs';
import { lstat, mkdir, open, readdir, readlink, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Failure } from '@torpor/kernel';
import { z } from 'zod';
import type { Client } from './client.ts';
import { linkHere, linkThere, type Link } from './copy-links.ts';
import { parsed } from './parsed.ts';

export type Place =
  | { readonly kind: 'here'; readonly path: string }
  | { readonly kind: 'there'; readonly sandbox: string; readonly path: string };

/** `name:path` lies in a sandbox; anything else, and anything that starts with `/` or `.`, here. */
export function placeOf(text: string): Place {
  const there = /^([a-z0-9][a-z0-9-]*):(.*)$/.exec(text);
  return there?.[1] ? { kind: 'there', sandbox: there[1], path: there[2] || '.' } : { kind: 'here', path: text };
}

/** What has been copied. `bytes` grows while a file is under way, `files` and `folders` when one is done. */
export interface Tally {
  files: number;
  folders: number;
  links: number;
  bytes: number;
  /** Paths in what was copied. */
  readonly leftOut: string[];
}

/** One copy: whom it speaks to, and what it has done so far. */
interface Copy {
  readonly client: Pick<Client, 'guest'>;
  readonly sandbox: string;
  readonly tally: Tally;
  /** To be made when all else is there: a file or folder must not come to lie behind one. */
  readonly links: Link[];
  /** The path here that the caller gave: a link there is theirs, and followed. */
  readonly named: string;
}

/** Copies from here to there or back, and counts in `tally` as it goes. */
export async function copyFiles(client: Pick<Client, 'guest'>, from: Place, to: Place, tally: Tally): Promise<void> {
  if (from.kind === 'here' && to.kind === 'there')
    return upload({ client, sandbox: to.sandbox, tally, links: [], named: from.path }, from.path, to.path);
  if (from.kind === 'there' && to.kind === 'here')
    return download({ client, sandbox: from.sandbox, tally, links: [], named: to.path }, from.path, to.path);
  throw new Failure('bad_request', 'one of the two must lie in a sandbox, written name:path, and the other here');
}

async function upload(copy: Copy, source: string, to: string): Promise<void> {
  const facts = await stat(source).catch(() => undefined); // absent, or not for us to see
  if (!facts) throw new Failure('not_found', `there is no "${source}" here that can be read`);
  await sendFrom(copy, { source, facts, target: to.endsWith('/') || to === '.' ? join(to, basename(source)) : to });
  const unmade = await linkThere(copy.client, copy.sandbox, copy.links);
  copy.tally.links += copy.links.length - unmade.length;
  copy.tally.leftOut.push(...unmade.map((link) => link.source));
}

async function sendFrom(
  copy: Copy,
  { source, facts, target }: { source: string; facts: Stats; target: string },
): Promise<void> {
  const mode = `0${(facts.mode & 0o777).toString(8)}`;
  if (facts.isFile()) return send(copy, source, target, mode);
  if (facts.isSymbolicLink()) return void copy.links.push({ target: await readlink(source), path: target, source });
  if (!facts.isDirectory()) return void copy.tally.leftOut.push(source);
  await makeThere(copy, target, mode);
  copy.tally.folders++;
  for (const name of (await readdir(source)).sort()) {
    const inside = join(source, name);
    await sendFrom(copy, { source: inside, facts: await lstat(inside), target: join(target, name) });
  }
}

async function send({ client, sandbox, tally }: Copy, source: string, target: string, mode: string): Promise<void> {
  const file = createReadStream(source);
  const body = file.pipe(counting(tally));
  file.once('error', (error) => body.destroy(error)); // pipe passes on what is read, and no errors
  const call = `${there('content', target)}&parents=1&mode=${mode}`;
  const answer = await client.guest(sandbox, 'PUT', call, body);
  await answer.body.dump();
  tally.files++;
}

async function makeThere({ client, sandbox }: Copy, path: string, mode: string): Promise<void> {
  const answer = await client.guest(sandbox, 'POST', '/v1/files/mkdir', { path, mode, parents: true });
  await answer.body.dump();
}

async function download(copy: Copy, from: string, target: string): Promise<void> {
  const answer = await copy.client.guest(copy.sandbox, 'GET', there('stat', from));
  const facts = parsed(Metadata, await answer.body.json(), `what is said of ${from}`);
  const isFolder = await stat(target).then(
    (found) => found.isDirectory(),
    () => false, // not there yet
  );
  const top = isFolder ? join(target, facts.name) : target;
  if (facts.type === 'symlink') await receive(copy, facts, top);
  else await fetchInto(copy, facts, top);
  for (const link of copy.links) {
    if (await linkHere(link)) copy.tally.links++;
    else copy.tally.leftOut.push(link.source);
  }
}

const Metadata = z.object({
  path: z.string(),
  name: z.string().refine((name) => !name.includes('/') && name !== '..', 'expected a name without a way in it'),
  type: z.enum(['file', 'directory', 'symlink', 'other']),
  mode: z.string().regex(/^[0-7]{3,5}$/),
  /** Where a link leads. */
  target: z.string().min(1).optional(),
});
type Metadata = z.infer<typeof Metadata>;
const Listing = z.object({ entries: z.array(Metadata), truncated: z.boolean() });

async function fetchInto(copy: Copy, facts: Metadata, target: string): Promise<void> {
  switch (facts.type) {
    case 'file':
      return receive(copy, facts, target);
    case 'symlink':
      if (facts.target === undefined) copy.tally.leftOut.push(facts.path);
      else copy.links.push({ target: facts.target, path: target, source: facts.path });
      return;
    case 'other':
      return void copy.tally.leftOut.push(facts.path);
    case 'directory':
      return fetchFolder(copy, facts, target);
  }
}

async function receive(copy: Copy, facts: Metadata, target: string): Promise<void> {
  const { client, sandbox, tally } = copy;
  const opened = await client.guest(sandbox, 'GET', there('content', facts.path)).catch((error: unknown) => {
    // Only a link may lead to what has no content; for a file it is a failure like any other.
    if (facts.type === 'symlink' && error instanceof Failure) return undefined;
    throw error;
  });
  if (!opened) return void tally.leftOut.push(facts.path);
  await mkdir(dirname(target), { recursive: true });
  await removeLink(copy, target);
  const isOurs = target !== copy.named;
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | (isOurs ? constants.O_NOFOLLOW : 0);
  const file = await open(target, flags, modeOf(opened.headers['x-torpor-file'], facts)).catch((error: unknown) => {
    opened.body.destroy();
    throw error;
  });
  await pipeline(opened.body, counting(tally), file.createWriteStream());
  tally.files++;
}

/** Of what was opened, where that is told: a link's own mode says nothing. Never more than permissions. */
function modeOf(header: string | string[] | undefined, facts: Metadata): number {
  const told = typeof header === 'string' ? Metadata.safeParse(JSON.parse(header)).data : undefined;
  return Number.parseInt((told ?? facts).mode, 8) & 0o777;
}

async function fetchFolder(copy: Copy, facts: Metadata, target: string): Promise<void> {
  await removeLink(copy, target);
  await mkdir(target, { recursive: true });
  copy.tally.folders++;
  const answer = await copy.client.guest(copy.sandbox, 'GET', there('list', facts.path));
  const { entries, truncated } = parsed(Listing, await answer.body.json(), `the list of ${facts.path}`);
  if (truncated)
    throw new Failure(
      'too_large',
      `${facts.path} has more than ${entries.length} entries; pack it there (tar) and copy that`,
    );
  for (const entry of entries) await fetchInto(copy, entry, join(target, entry.name));
}

/** An earlier copy may have left it, and the sandbox chose where it leads. */
async function removeLink({ named }: Copy, path: string): Promise<void> {
  if (path === named) return;
  const found = await lstat(path).catch(() => undefined); // nothing there
  if (found?.isSymbolicLink()) await rm(path);
}

function there(call: string, path: string): string {
  return `/v1/files/${call}?path=${encodeURIComponent(path)}`;
}

function counting(tally: Tally): Transform {
  return new Transform({
    transform(bytes: Buffer, _, done) {
      tally.bytes += bytes.length;
      done(null, bytes);
    },
  });
}
