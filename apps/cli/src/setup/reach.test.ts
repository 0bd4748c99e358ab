import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { everybodyReaches } from './reach.ts';

it.each([
  { name: 'open all the way', directory: 0o755, file: 0o755, reached: true },
  { name: 'a closed directory above', directory: 0o700, file: 0o755, reached: false },
  { name: 'a closed file', directory: 0o755, file: 0o750, reached: false },
  { name: 'a directory that may be entered but not listed is enough', directory: 0o711, file: 0o755, reached: true },
])('$name', async ({ directory, file, reached }) => {
  const root = await mkdtemp(join(tmpdir(), 'torpor-reach-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  await chmod(root, 0o755);
  await mkdir(join(root, 'd'));
  await writeFile(join(root, 'd/f'), '');
  await chmod(join(root, 'd/f'), file);
  await chmod(join(root, 'd'), directory);
  expect(await everybodyReaches(join(root, 'd/f'))).toBe(reached);
});
