import { mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { writeReadable } from './readable-file.ts';

it.skipIf(process.getuid?.() !== 0)('replaces a link instead of writing where it leads', async () => {
  const configDir = await mkdtemp(join(tmpdir(), 'torpor-'));
  try {
    const precious = join(configDir, 'precious');
    await writeFile(precious, 'of root', { mode: 0o600 });
    await symlink(precious, join(configDir, 'gateway.json'));
    await symlink(precious, join(configDir, 'gateway.json.new'));
    const file = await writeReadable({ configDir }, 'gateway.json', 'new', { uid: 65_534, gid: 65_534 });
    const [left, made] = await Promise.all([stat(precious), stat(file)]);
    expect([await readFile(precious, 'utf8'), left.uid, left.mode & 0o777]).toEqual(['of root', 0, 0o600]);
    expect([await readFile(file, 'utf8'), made.uid, made.gid, made.mode & 0o777]).toEqual(['new', 0, 65_534, 0o440]);
  } finally {
    await rm(configDir, { recursive: true });
  }
});
