/** ComputeSDK's provider for Blaxel, unmodified: a client that was not written by Blaxel. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startRealGuest, type RealGuest } from './real-guest.ts';
import { openRehearsal, type Rehearsal } from './rehearsal.ts';

let real: RealGuest;
let rehearsal: Rehearsal;
let blaxel: typeof import('@computesdk/blaxel').blaxel;

beforeAll(async () => {
  real = await startRealGuest();
  rehearsal = await openRehearsal(real.guest, real.workdir);
  Object.assign(process.env, {
    BL_API_URL: `${rehearsal.url}/v0`,
    BL_RUN_URL: rehearsal.url,
    BL_DISABLE_H2: '1',
    BL_REGION: '',
    DO_NOT_TRACK: '1',
  });
  // It reads its settings when it is loaded, and on a busy machine the loading takes longer than a test may.
  ({ blaxel } = await import('@computesdk/blaxel'));
}, 180_000);

afterAll(async () => {
  await rehearsal.close();
  await real.close();
});

test('a sandbox without a name is made, used and ended', async () => {
  const provider = blaxel({ apiKey: 'key', workspace: 'acme' });
  const sandbox = await provider.sandbox.create({ timeout: 300_000, envs: { A: '1' } });
  expect(await sandbox.runCommand('echo "hi there"; echo oh >&2; exit 3')).toMatchObject({
    stdout: 'hi there\n',
    stderr: 'oh\n',
    exitCode: 3,
  });
  await sandbox.filesystem.writeFile(`${real.home}/c.txt`, 'content');
  expect(await sandbox.filesystem.readFile(`${real.home}/c.txt`)).toBe('content');
  expect(await sandbox.filesystem.exists(`${real.home}/c.txt`)).toBe(true);
  expect((await sandbox.filesystem.readdir(real.home)).map((entry) => entry.name)).toContain('c.txt');
  expect(await sandbox.getInfo()).toMatchObject({ status: 'running', timeout: 300_000 });
  expect(await sandbox.getUrl({ port: 3000 })).toMatch(/\/preview\/[0-9a-f]{20}$/);
  await sandbox.destroy();
  expect(rehearsal.bugs).toEqual([]);
});
