import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { contentKey } from './cache.ts';

/** A key over all that decides what a Go module compiles to: its sources and embedded files, not its tests or prose. */
export async function sourceKey(directory: string): Promise<string> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile() && !/(_test\.go|\.md|\.log)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !/\/(testdata|node_modules|\.turbo)\//.test(path))
    .sort();
  const contents = await Promise.all(paths.map((path) => readFile(path, 'utf8')));
  return contentKey(paths.flatMap((path, index) => [path.slice(directory.length), contents[index] ?? '']));
}
