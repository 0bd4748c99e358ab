/** `/filesystem/tree/{path}`: many small files at once. */
import { posix } from 'node:path';
import { z } from 'zod';
import { locate } from './addresses.ts';
import { readJson } from './bodies.ts';
import { recode, type DataPlaneAnswer, type Exchange } from './exchange.ts';
import { FILE_CODES, pathOf, putFile, readDirectory } from './files.ts';
import { GuestFile, ask } from './guest-calls.ts';

const TREE_BYTES_MAX = 64 * 1024 * 1024;
const FILES_MAX = 10_000;
const AT_ONCE = 8;

const TreeRequest = z.object({
  files: z
    .record(z.string().min(1), z.string())
    .refine((files) => Object.keys(files).length <= FILES_MAX, `expected at most ${FILES_MAX} files`)
    .nullish(),
});

/** Writes the files below the path, parents made, and lists the directory. */
export async function writeTree(exchange: Exchange): Promise<DataPlaneAnswer> {
  const root = pathOf(exchange);
  const { files } = await readJson(exchange.request, TreeRequest, TREE_BYTES_MAX);
  const waiting = Object.entries(files ?? {}).map(
    ([name, content]) => [locate(posix.join(root, name), exchange.workdir), content] as const,
  );
  try {
    await ask(
      exchange.guest,
      GuestFile,
      'POST',
      '/v1/files/mkdir',
      { path: root, parents: true },
      { signal: exchange.request.signal },
    );
  } catch (error) {
    throw recode(error, FILE_CODES);
  }
  const work = waiting.values();
  await Promise.all(
    Array.from({ length: Math.min(AT_ONCE, waiting.length) }, async () => {
      for (const [path, content] of work) await putFile(exchange, path, Buffer.from(content), undefined);
    }),
  );
  return readDirectory(exchange);
}
