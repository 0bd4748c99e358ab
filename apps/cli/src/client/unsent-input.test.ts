import { execFile } from 'node:child_process';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { constants } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { hasInput } from './unsent-input.ts';

const exec = promisify(execFile);
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'torpor-input-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

it('sees what a pipe holds, and leaves it there', async () => {
  await exec('mkfifo', [join(dir, 'pipe')]);
  const pipe = await open(join(dir, 'pipe'), constants.O_RDWR | constants.O_NONBLOCK);
  expect(await hasInput(pipe.fd)).toBe(false);
  await pipe.write('hello');
  expect(await hasInput(pipe.fd)).toBe(true);
  expect((await pipe.read(Buffer.alloc(10), 0, 10)).bytesRead).toBe(5);
  await pipe.close();
});

it('sees a file with something in it, and nothing in /dev/null', async () => {
  await writeFile(join(dir, 'empty'), '');
  await writeFile(join(dir, 'full'), 'x');
  const seen = async (path: string) => {
    const file = await open(path);
    try {
      return await hasInput(file.fd);
    } finally {
      await file.close();
    }
  };
  expect(await seen(join(dir, 'empty'))).toBe(false);
  expect(await seen(join(dir, 'full'))).toBe(true);
  expect(await seen('/dev/null')).toBe(false);
});
