import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { chooseGo, findGo } from './go.ts';
import { pins } from './pins.ts';

it.each([
  { name: 'no Go: install one', versions: [], choice: { kind: 'install' } },
  { name: "Debian's 1.19 cannot fetch another", versions: ['1.19.8'], choice: { kind: 'install' } },
  {
    name: '1.21 fetches the one we need',
    versions: ['1.21'],
    choice: { kind: 'fetches-newer', toolchain: `go${pins.goMin}` },
  },
  { name: 'exactly new enough', versions: [pins.goMin], choice: { kind: 'as-it-is' } },
  { name: '1.100 is newer than 1.26', versions: ['1.100'], choice: { kind: 'as-it-is' } },
  {
    name: 'a new enough one anywhere beats an older one first on PATH',
    versions: ['1.22.1', '1.26.8'],
    choice: { kind: 'as-it-is', go: { path: '/1/go', version: '1.26.8' } },
  },
])('$name', ({ versions, choice }) => {
  expect(chooseGo(versions.map((version, index) => ({ path: `/${index}/go`, version })))).toMatchObject(choice);
});

it('finds a Go behind a link on PATH and reads its version without starting it', async () => {
  const root = await mkdtemp(join(tmpdir(), 'torpor-go-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  await mkdir(join(root, 'go-1.2/bin'), { recursive: true });
  await mkdir(join(root, 'bin'));
  await writeFile(join(root, 'go-1.2/bin/go'), 'not a program');
  await writeFile(join(root, 'go-1.2/VERSION'), 'go1.2.3\ntime 2026-01-01T00:00:00Z\n');
  await symlink('../go-1.2/bin/go', join(root, 'bin/go'));
  expect(await findGo('/nonexistent', { PATH: join(root, 'bin') })).toContainEqual({
    path: join(root, 'bin/go'),
    version: '1.2.3',
  });
});
