import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { thisInstallation } from '../up/installation.ts';
import { leftInstallations } from './left-installations.ts';

it('knows which installations of the tests are left, each once', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'torpor-left-'));
  const env = { TORPOR_STATE: join(dir, 'state') };
  const file = join(dir, 'brought-up');
  expect(await leftInstallations(file, env)).toEqual([]);
  await mkdir(thisInstallation({ ...env, TORPOR_INSTALLATION: 'tests of /a b' }).stateDir, { recursive: true });
  await writeFile(file, 'tests of /a b\npurged of /a b\ntests of /a b\n');
  expect(await leftInstallations(file, env)).toEqual(['tests of /a b']);
  await rm(dir, { recursive: true });
});
