/** Links of what is copied stay links: followed, they would bring along files from outside of it. */
import { lstat, rm, symlink } from 'node:fs/promises';
import { Failure } from '@torpor/kernel';
import { z } from 'zod';
import type { Client } from './client.ts';
import { parsed } from './parsed.ts';

export interface Link {
  /** What it says, wherever that leads. */
  readonly target: string;
  /** Where it is to be. */
  readonly path: string;
  /** Where it was found. */
  readonly source: string;
}

/** Two paths of 4 KiB each, and one exec takes 2 MiB. */
const LINKS_AT_ONCE = 200;
const LINKS_MS = 30_000;

/**
 * Its arguments are a number, a target and a path for each link; it prints the numbers of those that it could not make. The first words of a path are
 * read as the guest's file calls read them.
 */
const MAKE_LINKS = `
while [ $# -ge 3 ]; do
  case "$3" in '~/'*) path="$HOME/\${3#??}" ;; *) path="$3" ;; esac
  if [ -d "$path" ] && [ ! -L "$path" ]; then echo "$1"; else ln -sfn -- "$2" "$path" || echo "$1"; fi
  shift 3
done`;

const Ended = z.object({ status: z.literal('exited'), exitCode: z.number(), stdout: z.string() });

/** Makes links in a sandbox, in place of links and files that are there. Answers those that could not be made. */
export async function linkThere(
  client: Pick<Client, 'guest'>,
  sandbox: string,
  links: readonly Link[],
): Promise<readonly Link[]> {
  const unmade: Link[] = [];
  for (let at = 0; at < links.length; at += LINKS_AT_ONCE) {
    const some = links.slice(at, at + LINKS_AT_ONCE);
    const numbers = await numbersUnmade(client, sandbox, some);
    unmade.push(...some.filter((_, index) => numbers.has(index)));
  }
  return unmade;
}

async function numbersUnmade(
  client: Pick<Client, 'guest'>,
  sandbox: string,
  links: readonly Link[],
): Promise<ReadonlySet<number>> {
  const argv = links.flatMap(({ target, path }, index) => [String(index), target, path]);
  const request = { argv: ['/bin/sh', '-c', MAKE_LINKS, 'torpor-links', ...argv], waitMs: LINKS_MS };
  const answer = await client.guest(sandbox, 'POST', '/v1/processes', request).catch((error: unknown) => {
    if (error instanceof Failure && error.code === 'bad_gateway') return undefined; // an image without a shell
    throw error;
  });
  if (!answer) return new Set(links.keys());
  const { exitCode, stdout } = parsed(Ended, await answer.body.json(), 'what became of the links');
  return exitCode === 0 ? new Set(stdout.split('\n').filter(Boolean).map(Number)) : new Set(links.keys());
}

/** Makes a link here, in place of a link or file that is there. False: a folder is there. */
export async function linkHere({ target, path }: Link): Promise<boolean> {
  const found = await lstat(path).catch(() => undefined); // nothing there
  if (found?.isDirectory()) return false;
  if (found) await rm(path);
  await symlink(target, path);
  return true;
}
