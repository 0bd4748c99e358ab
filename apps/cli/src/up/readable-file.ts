import { chmod, chown, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Layout } from './layout.ts';

/**
 * Writes a file of root's that the rooms may read, and answers its path. It is made aside and renamed, so that whatever lay under its name is replaced
 * and never followed.
 */
export async function writeReadable(
  { configDir, user }: Pick<Layout, 'configDir' | 'user'>,
  name: string,
  text: string,
): Promise<string> {
  const file = join(configDir, name);
  const aside = `${file}.new`;
  await rm(aside, { force: true });
  await writeFile(aside, text, { mode: 0o600, flag: 'wx' });
  await chown(aside, 0, user.gid);
  await chmod(aside, 0o640);
  await rename(aside, file);
  return file;
}
