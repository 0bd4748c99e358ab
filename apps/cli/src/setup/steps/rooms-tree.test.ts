import { chmod, lstat, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { runSteps } from '../run-steps.ts';
import { roomsTree } from './rooms-tree.ts';

let root: string;
let checkout: string;
let cacheDir: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'torpor-rooms-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  await chmod(root, 0o755);
  cacheDir = join(root, 'cache');
  checkout = join(root, 'checkout');
  await mkdir(join(checkout, 'apps/room/node_modules'), { recursive: true });
  await mkdir(join(checkout, 'packages/shared'), { recursive: true });
  await writeFile(join(checkout, 'pnpm-lock.yaml'), '');
  await writeFile(join(checkout, 'apps/room/main.ts'), 'one', { mode: 0o600 });
  await symlink('../../../packages/shared', join(checkout, 'apps/room/node_modules/shared'));
});

async function ensureTree(): Promise<string> {
  const { step, dir } = await roomsTree(cacheDir, checkout);
  await runSteps([step], [step.id], { cacheDir, out: { write: () => undefined } });
  return dir;
}

it('uses an open checkout as it is', async () => {
  expect(await ensureTree()).toBe(checkout);
});

it('copies a closed checkout so that everybody may read it, links kept as links', async () => {
  await chmod(checkout, 0o700);
  const copy = await ensureTree();
  expect(copy).not.toBe(checkout);
  expect((await stat(join(copy, 'apps/room/main.ts'))).mode & 0o777).toBe(0o644);
  expect((await lstat(join(copy, 'apps/room/node_modules/shared'))).isSymbolicLink()).toBe(true);
  expect((await stat(join(checkout, 'apps/room/main.ts'))).mode & 0o777).toBe(0o600);
});

it('makes a new copy when a source changes, and keeps only one older', async () => {
  await chmod(checkout, 0o700);
  for (const text of ['two!', 'three', 'fourth']) {
    await writeFile(join(checkout, 'apps/room/main.ts'), text);
    expect(await readFile(join(await ensureTree(), 'apps/room/main.ts'), 'utf8')).toBe(text);
  }
  expect((await readdir(cacheDir)).filter((name) => name.startsWith('rooms-'))).toHaveLength(2);
});
