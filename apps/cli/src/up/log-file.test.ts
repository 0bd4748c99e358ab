import { mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { LogFile } from './log-file.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'torpor-log-'));
});
afterEach(() => rm(directory, { recursive: true }));

it('turns over at its size, and keeps the file before', async () => {
  const path = join(directory, 'log');
  const log = new LogFile(path, { largestBytes: 200 });
  log.event('first', {});
  await vi.waitFor(async () => expect(await readFile(path, 'utf8')).toContain('first'));
  log.event('second', { filler: 'x'.repeat(200) });
  log.event('third', {});
  await log.close();
  expect(await readFile(`${path}.1`, 'utf8')).toMatch(/first.*\n.*second/);
  expect(await readFile(path, 'utf8')).toContain('third');
});

it('outlives a disk that is full', async () => {
  const path = join(directory, 'log');
  await symlink('/dev/full', path);
  const log = new LogFile(path);
  log.event('this meets ENOSPC', {});
  await log.close();
  expect(() => log.event('this is let go', {})).not.toThrow();
});
