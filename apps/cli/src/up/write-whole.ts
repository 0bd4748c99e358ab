import { rename, writeFile } from 'node:fs/promises';

/** Writes a file so that it is never seen half-written: beside it first, then renamed over it. */
export async function writeWhole(path: string, text: string | Uint8Array, mode: number): Promise<void> {
  const aside = `${path}.new`;
  await writeFile(aside, text, { mode, flush: true });
  await rename(aside, path);
}
