import { chmod, chown, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Account } from './accounts.ts';

/**
 * Writes a file of root's that one account may read and nobody may write, and answers its path. It is made aside and renamed, so that whatever lay under
 * its name is replaced and never followed.
 */
export async function writeReadable(
  { configDir }: { readonly configDir: string },
  name: string,
  text: string,
  reader: Account,
): Promise<string> {
  const file = join(configDir, name);
  const aside = `${file}.new`;
  await rm(aside, { force: true });
  await writeFile(aside, text, { mode: 0o600, flag: 'wx' });
  await chown(aside, 0, reader.gid);
  await chmod(aside, 0o440);
  await rename(aside, file);
  return file;
}
