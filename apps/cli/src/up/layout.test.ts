import { chown, mkdir, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Accounts } from './accounts.ts';
import type { Installation } from './installation.ts';
import { layOut } from './layout.ts';

const OLD = 64_000;
const at = (id: number) => ({ uid: id, gid: id });
const accounts: Accounts = {
  gateway: at(64_001),
  scheduler: at(64_002),
  node: at(64_003),
  nats: at(64_004),
  postgres: at(64_005),
};

let dir: string;
let installation: Installation;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'torpor-layout-'));
  const [stateDir, runDir] = [join(dir, 'state'), join(dir, 'run', 'up')];
  installation = { id: 'abcdef', name: 'test', checkout: dir, stateDir, runDir };
});
afterEach(() => rm(dir, { recursive: true, force: true }));

describe.skipIf(process.getuid?.() !== 0)('the directories of an installation', () => {
  it('belong each to its own account, and are closed to the others', async () => {
    const nodeDir = join(installation.stateDir, 'node');
    const layout = await layOut(installation, accounts, undefined, [{ stateDir: nodeDir }]);
    const facts = await Promise.all(
      [layout.postgresDir, layout.natsDir, nodeDir, layout.compileCacheDirs.gateway, layout.configDir].map(
        async (path) => {
          const { uid, mode } = await stat(path);
          return [uid, (mode & 0o777).toString(8)];
        },
      ),
    );
    expect(facts).toEqual([
      [64_005, '700'],
      [64_004, '700'],
      [64_003, '700'],
      [64_001, '700'],
      [0, '711'],
    ]);
  });

  it('are taken over from the one account that an earlier version ran every room as', async () => {
    const data = join(installation.stateDir, 'postgres', 'data');
    await mkdir(data, { recursive: true });
    await writeFile(join(data, 'PG_VERSION'), '18');
    const outside = join(dir, 'outside');
    await writeFile(outside, '');
    await symlink(outside, join(data, 'link'));
    await mkdir(join(installation.stateDir, 'config'));
    await writeFile(join(installation.stateDir, 'config', 'gateway.secrets.json'), '{}');
    for (const path of [join(data, 'PG_VERSION'), data, join(data, '..')]) await chown(path, OLD, OLD);
    await layOut(installation, accounts);
    const now = await Promise.all(
      [join(data, 'PG_VERSION'), data, outside].map(async (path) => (await stat(path)).uid),
    );
    expect(now).toEqual([64_005, 64_005, 0]);
    await expect(stat(join(installation.stateDir, 'config', 'gateway.secrets.json'))).rejects.toThrow('ENOENT');
  });
});
