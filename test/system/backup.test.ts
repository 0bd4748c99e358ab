/**
 * An installation is backed up while it is used, and brought back as another one on this machine: what ran, what slept and its snapshots are there as they
 * were, by the same keys. Before that, everything that a restore must refuse is refused, and leaves nothing.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, open, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { createOne, type Made } from '../bench/lib/sandboxes.ts';
import { checkout, torpor, whereIs, type Stack } from '../bench/lib/stack.ts';
import { sh } from './inside.ts';
import { expectWhole, startKeeper, tell, type Kept } from './keeper.ts';
import { ownInstallation, type OwnInstallation } from './own-installation.ts';
import { isFull } from './test-stack.ts';

const SECRET = 'a-word-that-nobody-may-read';
const RIGHT = { TORPOR_BACKUP_PASSPHRASE: 'correct horse battery' };
const UP = ['--pool', '0', '--disk', '3'];

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

let dir: string;
let [first, second] = [] as unknown as [OwnInstallation, OwnInstallation];
let stack: Stack;

async function run(args: readonly string[], env: NodeJS.ProcessEnv): Promise<Ended> {
  return new Promise((resolve) =>
    execFile(join(checkout, 'torpor'), [...args], { env, maxBuffer: 64 << 20 }, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    ),
  );
}

// Each guess of a passphrase is half a second of work, and more beside others.
describe.runIf(isFull)('a backup', { timeout: 600_000 }, () => {
  let awake: { sandbox: Made; before: Kept };
  let asleep: { sandbox: Made; before: Kept };

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'torpor-backup-'));
    first = await ownInstallation('backup', UP, RIGHT);
    second = await ownInstallation('restored', UP, RIGHT);
    stack = await first.up();
    const made = async (name: string) => {
      const sandbox = await createOne(stack, name, { memoryMib: 512, idle: { kind: 'never' } });
      return { sandbox, before: await startKeeper(stack, sandbox, 8) };
    };
    [awake, asleep] = [await made('awake'), await made('asleep')];
    await sh(stack, asleep.sandbox, `echo ${SECRET} > /root/word`);
    await api(stack).snapshot('asleep', 'then');
    await sh(stack, asleep.sandbox, 'echo now > /root/word');
    for (const name of ['awake', 'asleep']) await torpor(['sandbox', 'store', name], first.env);
    awake.before = await tell(stack, awake.sandbox); // and so it has a receipt
    await torpor(['volume', 'create', 'alone', '--size', '16'], first.env);
  });

  afterAll(async () => {
    await first?.purge();
    await second?.purge();
    if (dir) await rm(dir, { recursive: true, force: true });
  });

  it('holds every sandbox, says what it does not hold, shows nobody anything, and lets what ran run on', async () => {
    const short = await run(['backup', dir], { ...first.env, TORPOR_BACKUP_PASSPHRASE: 'short' });
    expect(short).toMatchObject({ code: 1, stderr: expect.stringContaining('at least 12') });
    const done = await run(['backup', dir, '--json'], first.env);
    expect(done.code, done.stderr).toBe(1); // for the volume
    const missing = [{ kind: 'volume', name: 'alone', reason: expect.stringContaining('not backed up') }];
    expect(JSON.parse(done.stdout)).toMatchObject({ sandboxes: 2, missing });
    expect((await api(stack).get('awake')).state).toBe('running');
    expectWhole(awake.before, await tell(stack, awake.sandbox));
    for (const name of await readdir(dir, { recursive: true })) {
      const bytes = await readFile(join(dir, name)).catch(() => Buffer.alloc(0)); // a directory
      for (const word of [SECRET, stack.apiKey]) expect(bytes.includes(word), `${word} in ${name}`).toBe(false);
    }
    const again = await run(['backup', dir], first.env);
    expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('is not empty') });
  });

  it('is refused under another passphrase, with a byte flipped anywhere, cut, or where something is, and leaves nothing', async () => {
    const { stateDir } = whereIs(second.env);
    const refused = async (env: NodeJS.ProcessEnv, words: RegExp) => {
      const { code, stderr } = await run(['restore', dir, '--disk', '3'], env);
      expect([code, stderr]).toEqual([1, expect.stringMatching(words)]);
      expect(existsSync(stateDir)).toBe(false);
    };
    await refused({ ...second.env, TORPOR_BACKUP_PASSPHRASE: 'another passphrase' }, /passphrase is not the one/);
    await refused(first.env, /has state in/);
    const names = await readdir(dir, { recursive: true });
    const pages = names.find((name) => name.endsWith('pages.img')) ?? '';
    for (const name of ['keys', 'tables/sandboxes', pages]) {
      await flip(join(dir, name));
      await refused(second.env, new RegExp(`${name} of the backup is damaged`));
      await flip(join(dir, name));
    }
    await flip(join(dir, 'list.json'));
    await refused(second.env, /list.json is no list|its list was changed/);
    await flip(join(dir, 'list.json'));
    const whole = await readFile(join(dir, pages));
    await truncate(join(dir, pages), Math.floor(whole.length / 2));
    await refused(second.env, /pages.img of the backup is damaged/);
    const file = await open(join(dir, pages), 'w');
    await file.writeFile(whole);
    await file.close();
  });

  it('comes back on another machine: what ran wakes as it was then, with its snapshots, its receipts and its keys', async () => {
    const done = await run(['restore', dir, '--disk', '3', '--json'], second.env);
    expect(done.code, done.stderr).toBe(1); // for the volume
    expect(JSON.parse(done.stdout)).toMatchObject({ sandboxes: 2, missing: [{ kind: 'volume', name: 'alone' }] });
    const there = { ...(await second.up()), headers: stack.headers }; // the keys of then
    const at = (one: Made) => ({ ...one, url: one.url.replace(stack.url, there.url) });
    for (const { sandbox, before } of [awake, asleep]) {
      expect((await api(there).get(sandbox.name)).state).toBe('stored');
      expectWhole(before, await tell(there, at(sandbox)));
    }
    expect((await sh(there, at(asleep.sandbox), 'cat /root/word')).stdout).toBe('now\n');
    await api(there).restore('asleep', 'then');
    expect((await sh(there, at(asleep.sandbox), 'cat /root/word')).stdout).toBe(`${SECRET}\n`);
    const receipts = await run(['receipt', 'list', 'awake', '--json'], second.env);
    expect(JSON.parse(receipts.stdout).length).toBeGreaterThan(1); // of before, and of now
    await writeFile(join(dir, 'receipts'), receipts.stdout);
    expect(await run(['receipt', 'verify', join(dir, 'receipts')], second.env)).toMatchObject({ code: 0 });
    expect(JSON.parse((await run(['volume', 'list', '--json'], second.env)).stdout)).toEqual([]);
    await createOne(there, 'fresh', { memoryMib: 512 });
    // The one that was backed up has gone on meanwhile, by itself.
    expectWhole(awake.before, await tell(stack, awake.sandbox));
  });
});

/** Any byte in its middle. */
async function flip(path: string): Promise<void> {
  const file = await open(path, 'r+');
  const { size } = await file.stat();
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, size >> 1);
  await file.write(Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, size >> 1);
  await file.close();
}
