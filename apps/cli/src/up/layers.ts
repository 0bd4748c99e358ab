import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Every read-only layer that the cache holds, for hostd takes no other directories. Instances are made of the newest; an image wants those again that its
 * sandbox was made of, however often guest, certificates and template were replaced since. So nothing here may be removed while an image needs it: the
 * set-up never does.
 */
export async function layersIn(cacheDir: string): Promise<string[]> {
  const found = await Promise.all([
    named(cacheDir, /^guest-layer-[0-9a-f]+$/),
    named(cacheDir, /^host-layer-[0-9a-f]+$/, 'layer'),
    named(join(cacheDir, 'templates'), /^[^.]+$/, 'private', 'rootfs'),
  ]);
  return found.flat();
}

/** What is being built bears another name until it is whole. */
async function named(directory: string, pattern: RegExp, ...inside: string[]): Promise<string[]> {
  const names = await readdir(directory);
  return names
    .filter((name) => pattern.test(name))
    .toSorted()
    .map((name) => join(directory, name, ...inside));
}
