/** Blaxel's own SDK, unmodified, against this dialect and the real guest. */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SandboxInstance as Instance } from '@blaxel/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startRealGuest, type RealGuest } from './real-guest.ts';
import { openRehearsal, type Rehearsal } from './rehearsal.ts';

let real: RealGuest;
let rehearsal: Rehearsal;
let SandboxInstance: typeof Instance;
let sandbox: Instance;

beforeAll(async () => {
  real = await startRealGuest();
  rehearsal = await openRehearsal(real.guest, real.workdir);
  Object.assign(process.env, {
    BL_API_URL: `${rehearsal.url}/v0`,
    BL_RUN_URL: rehearsal.url,
    BL_WORKSPACE: 'acme',
    BL_API_KEY: 'key',
    BL_DISABLE_H2: '1',
    BL_REGION: '',
    DO_NOT_TRACK: '1',
  });
  ({ SandboxInstance } = await import('@blaxel/core'));
  sandbox = await SandboxInstance.create({ name: 'demo', region: 'here', labels: { a: 'b' } });
}, 180_000);

afterAll(async () => {
  await rehearsal.close();
  await real.close();
});

describe('process', () => {
  test('a command answers with its output', async () => {
    const result = await sandbox.process.exec({ command: 'echo out; echo err >&2; pwd', waitForCompletion: true });
    expect(result).toMatchObject({ status: 'completed', exitCode: 0, workingDir: real.workdir, stderr: 'err\n' });
    expect(result.stdout).toBe(`out\n${real.workdir}\n`);
    expect(result.logs.split('\n').sort()).toEqual(['', 'err', 'out', real.workdir].sort());
    expect(result.pid).toMatch(/^\d+$/);
    expect(result.startedAt).toMatch(/^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/);
  });

  test('output comes while the command runs, the environment and directory are as asked', async () => {
    const seen: string[] = [];
    const result = await sandbox.process.exec({
      command: 'for i in 1 2 3; do echo "$WORD $i"; done; pwd; exit 3',
      env: { WORD: 'n' },
      workingDir: '/tmp',
      waitForCompletion: true,
      onStdout: (text: string) => void seen.push(text),
    });
    expect(seen.join('')).toBe('n 1\nn 2\nn 3\n/tmp\n');
    expect(result).toMatchObject({ status: 'failed', exitCode: 3, stdout: 'n 1\nn 2\nn 3\n/tmp\n' });
  });

  test('a background process is followed, waited for and listed', async () => {
    const lines: string[] = [];
    const started = await sandbox.process.exec({
      name: 'bg',
      command: 'echo one; echo two >&2; sleep 0.2; echo three',
    });
    expect(started).toMatchObject({ name: 'bg', status: 'running', completedAt: '', logs: '' });
    const log = sandbox.process.streamLogs('bg', { onLog: (line) => void lines.push(line) });
    await log.wait();
    expect(lines.sort()).toEqual(['one', 'three', 'two']);
    expect(await sandbox.process.wait('bg', { interval: 20 })).toMatchObject({ status: 'completed' });
    expect(await sandbox.process.logs('bg', 'stdout')).toBe('one\nthree\n');
    expect(await sandbox.process.logs('bg', 'stderr')).toBe('two\n');
    expect((await sandbox.process.list()).map((each) => each.name)).toContain('bg');
  });

  test('a name in use is a 400, an unknown one a 404, and the end by force is told', async () => {
    await sandbox.process.exec({ name: 'sl', command: 'sleep 50' });
    await expect(sandbox.process.exec({ name: 'sl', command: 'true' })).rejects.toMatchObject({ status: 400 });
    await expect(sandbox.process.get('nobody')).rejects.toMatchObject({ status: 404 });
    await sandbox.process.kill('sl');
    expect(await sandbox.process.wait('sl', { interval: 20 })).toMatchObject({ status: 'killed', exitCode: -1 });
    await sandbox.process.exec({ name: 'st', command: 'trap "exit 7" TERM; while :; do sleep 0.05; done' });
    await sandbox.process.stop('st');
    expect(await sandbox.process.wait('st', { interval: 20 })).toMatchObject({ status: 'stopped' });
  });

  test('a wait that is too long is a 422 and leaves the process alone', async () => {
    const late = sandbox.process.exec({ name: 'slow', command: 'sleep 30', waitForCompletion: true, timeout: 0.2 });
    await expect(late).rejects.toMatchObject({ status: 422 });
    expect(await sandbox.process.get('slow')).toMatchObject({ status: 'running' });
    await sandbox.process.kill('slow');
  });

  test('a keep-alive process ends with its timeout', async () => {
    await sandbox.process.exec({ name: 'ka', command: 'sleep 30', keepAlive: true, timeout: 0.2 });
    expect(await sandbox.process.wait('ka', { interval: 20 })).toMatchObject({ status: 'killed', keepAlive: true });
  });

  test('restart on failure', async () => {
    const marker = join(real.home, 'once');
    const result = await sandbox.process.exec({
      command: `if [ -f ${marker} ]; then echo again; else touch ${marker}; echo first; exit 1; fi`,
      restartOnFailure: true,
      maxRestarts: 3,
      waitForCompletion: true,
    });
    expect(result).toMatchObject({
      status: 'completed',
      restartCount: 1,
      stdout: 'first\nagain\n',
      restartOnFailure: true,
    });
  });

  test('stdin', async () => {
    await sandbox.process.exec({ name: 'cat', command: 'cat', stdin: true });
    await sandbox.process.writeStdin('cat', 'héllo\n');
    await sandbox.process.closeStdin('cat');
    expect(await sandbox.process.wait('cat', { interval: 20 })).toMatchObject({ status: 'completed' });
    expect(await sandbox.process.logs('cat')).toBe('héllo\n');
    await expect(sandbox.process.writeStdin('cat', 'late')).rejects.toMatchObject({ status: 409 });
  });

  test('waiting for a port, which is then listed', async () => {
    const port = 20_000 + (process.pid % 20_000);
    const started = await sandbox.process.exec({
      name: 'web',
      command: `python3 -m http.server ${port} --bind 127.0.0.1`,
      waitForPorts: [port],
    });
    const url = `${sandbox.metadata.url}/network/process/${started.pid}/ports`;
    expect(await (await fetch(url)).json()).toMatchObject({ pid: Number(started.pid), ports: [{ port }] });
    await sandbox.process.kill('web');
    const failing = sandbox.process.exec({ command: 'exit 4', waitForPorts: [port + 1], timeout: 20 });
    await expect(failing).rejects.toMatchObject({ status: 422 });
  });

  test('much output arrives whole, in characters', async () => {
    const result = await sandbox.process.exec({
      command: `i=0; while [ $i -lt 4000 ]; do printf '%s\\n' "äöü€😀äöü€😀äöü€😀äöü€😀 $i"; i=$((i+1)); done`,
      waitForCompletion: true,
    });
    const lines = Array.from({ length: 4000 }, (_, i) => `äöü€😀äöü€😀äöü€😀äöü€😀 ${i}\n`).join('');
    expect(result.stdout === lines).toBe(true);
    expect(result.logs === lines).toBe(true);
    expect((await sandbox.process.logs(result.pid)) === lines).toBe(true);
  });
});

describe('fs', () => {
  test('text, absolute and relative', async () => {
    await sandbox.fs.write(join(real.home, 'a.txt'), 'héllo');
    expect(await sandbox.fs.read(join(real.home, 'a.txt'))).toBe('héllo');
    await sandbox.fs.write('rel.txt', 'x');
    await sandbox.fs.write('deep/er/rel.txt', 'y');
    expect(await readFile(join(real.workdir, 'rel.txt'), 'utf8')).toBe('x');
    expect(await readFile(join(real.workdir, 'deep/er/rel.txt'), 'utf8')).toBe('y');
    expect(await sandbox.fs.read('~/rel.txt')).toBe('x');
  });

  test('bytes', async () => {
    const bytes = randomBytes(300_000);
    await sandbox.fs.writeBinary(join(real.home, 'bin.dat'), bytes);
    const back = Buffer.from(await (await sandbox.fs.readBinary(join(real.home, 'bin.dat'))).arrayBuffer());
    expect(back.equals(bytes)).toBe(true);
    await sandbox.fs.writeBinary('rel.bin', bytes.subarray(0, 10));
    expect((await readFile(join(real.workdir, 'rel.bin'))).equals(bytes.subarray(0, 10))).toBe(true);
  });

  test('a big file goes in parts', async () => {
    const bytes = randomBytes(12 * 1024 * 1024 + 7);
    await sandbox.fs.writeBinary(join(real.home, 'big.dat'), bytes);
    expect((await readFile(join(real.home, 'big.dat'))).equals(bytes)).toBe(true);
    const text = 'ü€'.repeat(1_500_000);
    await sandbox.fs.write(join(real.home, 'big.txt'), text);
    expect((await sandbox.fs.read(join(real.home, 'big.txt'))) === text).toBe(true);
  });

  test('trees and listings', async () => {
    const tree = join(real.home, 'tree');
    const written = await sandbox.fs.writeTree(
      [
        { path: 'x/y.txt', content: '1' },
        { path: 'z.txt', content: '2' },
      ],
      tree,
    );
    expect(written).toMatchObject({ path: tree, files: [{ name: 'z.txt' }], subdirectories: [{ name: 'x' }] });
    expect(await sandbox.fs.ls(tree)).toEqual(written);
    expect((await sandbox.fs.ls(tree)).files[0]).toMatchObject({ path: `${tree}/z.txt`, permissions: '644', size: 1 });
    await sandbox.fs.writeTree([{ path: 'in-workdir.txt', content: '3' }]);
    expect(await sandbox.fs.read('in-workdir.txt')).toBe('3');
    expect((await sandbox.fs.ls('/')).subdirectories.map((each) => each.name)).toContain('tmp');
    await sandbox.fs.mkdir(join(tree, 'empty'), '0700');
    expect(await sandbox.fs.ls(join(tree, 'empty'))).toMatchObject({ name: 'empty', files: [], subdirectories: [] });
  });

  test('removing, copying', async () => {
    const tree = join(real.home, 'gone');
    await sandbox.fs.writeTree([{ path: "it's/a.txt", content: '1' }], tree);
    await expect(sandbox.fs.rm(tree)).rejects.toMatchObject({ status: 422 });
    await sandbox.fs.cp(tree, `${tree}-copy`);
    await sandbox.fs.rm(tree, true);
    await expect(sandbox.fs.ls(tree)).rejects.toMatchObject({ status: 404 });
    await expect(sandbox.fs.rm(tree)).rejects.toMatchObject({ status: 404 });
    expect(await sandbox.fs.read(join(`${tree}-copy`, "it's/a.txt"))).toBe('1');
  });

  test('finding', async () => {
    const tree = join(real.home, 'find');
    const files = ['a.md', 'b.txt', 'sub/c.md', '.hidden.md', 'node_modules/d.md'];
    await sandbox.fs.writeTree(
      files.map((path) => ({ path, content: 'one\ntwo needle\nthree\n' })),
      tree,
    );
    const found = await sandbox.fs.find(tree, { type: 'file', patterns: ['*.md'] });
    expect(found.matches?.map((match) => match.path).sort()).toEqual(['a.md', 'sub/c.md']);
    const grepped = await sandbox.fs.grep('NEEDLE', tree, { contextLines: 1, filePattern: '*.txt' });
    expect(grepped).toMatchObject({ query: 'NEEDLE', total: 1 });
    expect(grepped.matches).toEqual([
      { path: 'b.txt', line: 2, column: expect.any(Number), text: 'two needle', context: 'one\ntwo needle\nthree' },
    ]);
    const named = await (
      await fetch(`${sandbox.metadata.url}/filesystem-search/${encodeURIComponent(tree)}?query=btx`)
    ).json();
    expect(named).toMatchObject({ matches: [{ path: 'b.txt', type: 'file' }], total: 1 });
    expect((await sandbox.fs.search('x', tree)).matches).toBeDefined();
  });

  test('watching', async () => {
    const tree = join(real.home, 'watched');
    await sandbox.fs.mkdir(tree);
    const seen = new Promise<{ op: string; path: string; name: string; content?: string | undefined }>(
      (resolve, reject) => {
        const watch = sandbox.fs.watch(
          tree,
          (event) => {
            if (event.op !== 'WRITE' && event.op !== 'CREATE') return;
            watch.close();
            resolve(event);
          },
          { withContent: false, onError: reject },
        );
      },
    );
    let told = false;
    void seen.then(() => (told = true));
    // The watch tells of what happens once it is open; writing until it does needs no guess when that is.
    await expect
      .poll(async () => (await sandbox.fs.write(join(tree, 'w.txt'), 'x'), told), { interval: 20, timeout: 10_000 })
      .toBe(true);
    expect(await seen).toMatchObject({ path: tree });
  });
});

describe('control plane', () => {
  test('what was made is told again, without a region nobody asked for', async () => {
    expect(sandbox.metadata).toMatchObject({ name: 'demo', labels: { a: 'b' }, workspace: 'acme' });
    expect(sandbox.spec).toMatchObject({
      region: 'here',
      runtime: { image: 'blaxel/base-image:latest', memory: 4096 },
    });
    const other = await SandboxInstance.createIfNotExists({ name: 'other' });
    expect(other.spec.region).toBeUndefined();
    expect((await SandboxInstance.createIfNotExists({ name: 'other' })).metadata.createdAt).toBe(
      other.metadata.createdAt,
    );
    await expect(SandboxInstance.create({ name: 'other' })).rejects.toMatchObject({ code: 'SANDBOX_ALREADY_EXISTS' });
    await expect(SandboxInstance.create({ name: 'bad', image: 'no/such' })).rejects.toMatchObject({
      code: 'INVALID_IMAGE',
    });
    await expect(SandboxInstance.get('bad')).rejects.toMatchObject({ code: 404 });
    expect((await SandboxInstance.list({ limit: 1 })).data).toHaveLength(1);
  });

  test('changes in place keep the rest', async () => {
    await SandboxInstance.create({
      name: 'changed',
      externalId: 'x-1',
      envs: [{ name: 'A', value: '1' }],
      labels: { k: 'v' },
    });
    const labelled = await SandboxInstance.updateMetadata('changed', { labels: { z: '1' } });
    expect(labelled.metadata).toMatchObject({ labels: { z: '1' }, externalId: 'x-1' });
    expect((await SandboxInstance.updateTtl('changed', '1h')).expiresIn).toBeGreaterThan(3500);
    expect((await SandboxInstance.get('changed')).spec.runtime?.ttl).toBe('1h');
    expect((await SandboxInstance.updateTtl('changed', '')).expiresIn).toBeUndefined();
    const policies = [{ type: 'ttl-idle' as const, value: '1h', action: 'delete' as const }];
    expect(
      (await SandboxInstance.updateLifecycle('changed', { expirationPolicies: policies })).expiresIn,
    ).toBeGreaterThan(3500);
  });

  test('a ttl ends it on time', async () => {
    await SandboxInstance.create({ name: 'brief', ttl: '1s' });
    expect((await SandboxInstance.get('brief')).status).toBe('DEPLOYED');
    await expect
      .poll(async () => (await SandboxInstance.get('brief')).status, { interval: 20, timeout: 1100 })
      .toBe('TERMINATED');
  });

  test('previews, their tokens, and a session that is the sandbox API', async () => {
    const made = await sandbox.previews.create({
      metadata: { name: 'p1' },
      spec: { port: 3000, public: false, prefixUrl: 'mine' },
    });
    expect(made.spec.url).toMatch(/\/preview\/mine-[0-9a-f]{20}$/);
    const token = await made.tokens.create(new Date(Date.now() + 60_000));
    expect(token.value).toMatch(/^[a-zA-Z0-9_-]+$/);
    expect(token.expired).toBe(false);
    await made.tokens.delete(token.value);
    expect(await made.tokens.list()).toEqual([]);
    const again = await sandbox.previews.createIfNotExists({
      metadata: { name: 'p2' },
      spec: { port: 3000, public: true },
    });
    await sandbox.previews.delete('p2');
    const anew = await sandbox.previews.createIfNotExists({
      metadata: { name: 'p2' },
      spec: { port: 3000, public: true },
    });
    expect(anew.spec.url).toBe(again.spec.url);
    const session = await sandbox.sessions.create();
    const inside = await SandboxInstance.fromSession(session);
    expect(await inside.process.exec({ command: 'echo in', waitForCompletion: true })).toMatchObject({
      stdout: 'in\n',
    });
    expect((await fetch(`${session.url}/process`)).status).toBe(401);
  });
});

test('nothing of all this met a bug of ours', () => {
  expect(rehearsal.bugs).toEqual([]);
});
