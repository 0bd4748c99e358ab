import { Generation, InstanceId, SandboxName, WorkspaceName } from '@torpor/contracts';
import { systemClock } from '@torpor/kernel';
import type { Intent, Step } from '@torpor/runtime';
import { appendFile, mkdtemp, open as openFile, readdir, rm, stat, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { failpointsFrom, fileJournalStore, Journal, MemoryJournalStore } from './index.ts';

const hostId = InstanceId.parse('hostaaaaaaaa');
const spec = {
  slot: 3,
  template: 'base',
  shape: { memoryMib: 512, cpus: 1, diskMib: 1024, pids: 256 },
  bootToken: 'boot',
};
const claim = {
  instanceId: InstanceId.parse('iaaaaaaaaaaa'),
  generation: Generation.parse(2),
  workspace: WorkspaceName.parse('w'),
  name: SandboxName.parse('s'),
  token: 'secret',
  workdir: '/blaxel',
  idle: { kind: 'after', idleMs: 15_000 } as const,
};

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'torpor-journal-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

async function open() {
  return new Journal({ store: await fileJournalStore(join(dir, 'journal')), clock: systemClock });
}

const hint = {
  lastUsedAtMs: 5,
  paused: [1.5],
  stored: [],
  files: [],
  stores: [],
  storeAsked: false,
  lean: [],
  isLean: true,
};

/** What all open files have in common. */
async function handles(): Promise<FileHandle> {
  const file = await openFile(dir, 'r');
  await file.close();
  return Object.getPrototypeOf(file) as FileHandle; // the one class there is
}

function step(name: string, run: (intent: Intent) => Promise<void> = async () => {}): Step {
  return { name, after: [], run };
}

describe('the journal', () => {
  it('tells after a restart whose an instance is and how far it came', async () => {
    const journal = await open();
    const intent = await journal.intendCreate(hostId, spec, [step('disk.create')]);
    expect([intent.instanceId, intent.covers('disk.create'), intent.covers('net.create')]).toEqual([
      hostId,
      true,
      false,
    ]);
    await journal.createDone(hostId, { pid: 7, startTicks: 99 });
    await journal.intendClaim(hostId, claim);
    const half = (await (await open()).read())[0]?.entry;
    expect([half?.claim?.name, half?.claimed]).toEqual(['s', false]);

    await journal.claimDone(hostId);
    await journal.policyChanged(hostId, { idle: { kind: 'never' }, wakeBudget: { kind: 'p99', ms: 25 } });
    expect((await (await open()).read())[0]?.entry.claim?.wakeBudget).toEqual({ kind: 'p99', ms: 25 });
    await journal.policyChanged(hostId, { idle: { kind: 'never' } });
    await journal.hint(hostId, hint);
    const [whole] = await (await open()).read();
    expect(whole?.entry).toMatchObject({ hostId, spec, process: { pid: 7, startTicks: 99 }, claimed: true });
    expect(whole?.entry.claim).toEqual({ ...claim, idle: { kind: 'never' } });
    expect(whole?.hint).toEqual(hint);
  });

  it('keeps tokens from other users of the host', async () => {
    await (await open()).intendCreate(hostId, spec, []);
    const modes = [join(dir, 'journal'), join(dir, 'journal', hostId), join(dir, 'journal', hostId, 'log.ndjson')];
    const open700 = await Promise.all(modes.map(async (path) => (await stat(path)).mode & 0o077));
    expect(open700).toEqual([0, 0, 0]);
  });

  it('takes a torn last line for never written, and any other damage for damage', async () => {
    const journal = await open();
    await journal.intendCreate(hostId, spec, []);
    await journal.intendClaim(hostId, claim);
    const log = join(dir, 'journal', hostId, 'log.ndjson');
    await appendFile(log, '{"kind":"done","operation":"cl');
    expect((await journal.read())[0]?.entry.claimed).toBe(false);
    await journal.claimDone(hostId); // begins on a line of its own
    expect((await journal.read())[0]?.entry.claimed).toBe(true);
    await appendFile(log, 'oops\n{"kind":"done","operation":"claim","atMs":1}\n');
    await expect(journal.read()).rejects.toThrow(/journal of hostaaaaaaaa/);
  });

  it('lets a disk that was full for one line spoil no other', async () => {
    const journal = await open();
    await journal.intendCreate(hostId, spec, []);
    const { appendFile: real } = await handles();
    const full = vi.spyOn(await handles(), 'appendFile').mockImplementationOnce(async function (
      this: FileHandle,
      line,
    ) {
      await real.call(this, String(line).slice(0, 20));
      throw new Error('ENOSPC: no space left on device');
    });
    onTestFinished(() => full.mockRestore());
    await expect(journal.intendClaim(hostId, claim)).rejects.toThrow(/ENOSPC/);
    const cut = vi.spyOn(await handles(), 'truncate').mockRejectedValueOnce(new Error('EIO'));
    onTestFinished(() => cut.mockRestore());
    await expect(journal.createDone(hostId, {})).rejects.toThrow(/EIO/);
    await journal.createDone(hostId, { pid: 7 });
    const [found] = await (await open()).read();
    expect(found?.entry).toMatchObject({ spec, process: { pid: 7 }, claim: undefined });
  });

  it('leaves nothing behind, and finishes a removal that was cut short', async () => {
    const journal = await open();
    await journal.intendCreate(hostId, spec, []);
    await journal.forget(hostId);
    await journal.forget(hostId);
    expect(await readdir(join(dir, 'journal'))).toEqual([]);
  });

  it('comes by its failpoints in order', async () => {
    const passed: string[] = [];
    const failpoints = { hit: (name: string) => void passed.push(name) };
    const journal = new Journal({ store: new MemoryJournalStore(), clock: systemClock, failpoints });
    const steps = [step('disk.create', async () => void passed.push('acts'))];
    await journal.carryOut(await journal.intendCreate(hostId, spec, steps), steps);
    await journal.createDone(hostId, {});
    expect(passed).toEqual([
      'journal:create:before-fsync',
      'journal:create:after-fsync',
      'journal:create:step:disk.create:before',
      'acts',
      'journal:create:step:disk.create:after',
      'journal:create:done:before-fsync',
      'journal:create:done:after-fsync',
    ]);
  });

  it('reads failpoints as an operator writes them', () => {
    let deaths = 0;
    const failpoints = failpointsFrom('a:b=kill, c=kill:2', async () => void deaths++);
    for (const name of ['x', 'a:b', 'a:b', 'c']) failpoints.hit(name);
    expect(deaths).toBe(1);
    failpoints.hit('c');
    expect(deaths).toBe(2);
    expect(() => failpointsFrom('a=explode')).toThrow(/expected/);
  });

  it('dies once at each point that a file in the directory arms', async () => {
    let deaths = 0;
    const failpoints = failpointsFrom(dir, async () => void deaths++);
    failpoints.hit('journal:create:before-fsync');
    expect(deaths).toBe(0);
    await appendFile(join(dir, 'journal:create:before-fsync'), '');
    for (const name of ['x', 'journal:create:before-fsync', 'journal:create:before-fsync']) failpoints.hit(name);
    expect([deaths, await readdir(dir)]).toEqual([1, []]);
  });
});

it('a crash loses no durable line of the memory store', async () => {
  const store = new MemoryJournalStore();
  const journal = new Journal({ store, clock: systemClock });
  const steps = [step('disk.create')];
  await journal.carryOut(await journal.intendCreate(hostId, spec, steps), steps);
  store.crash();
  expect((await journal.read())[0]?.entry.spec).toEqual(spec);
});
