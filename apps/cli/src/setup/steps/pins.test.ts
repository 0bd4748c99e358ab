import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { pins } from './pins.ts';

it('names the gVisor that hostd is built with, and runsc with it', async () => {
  const goMod = await readFile(join(import.meta.dirname, '../../../../../packages/hostd/go.mod'), 'utf8');
  expect(goMod).toContain(`\t${pins.gvisor.replace('@', ' ')}\n`);
});
