/** The published `@blaxel/core`, unmodified, pointed at the stack by its environment variables only. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { loadBlaxel, type Stack } from '../bench/lib/stack.ts';
import { freshName, testStack } from './test-stack.ts';

type Blaxel = Awaited<ReturnType<typeof loadBlaxel>>;
type Sandbox = Awaited<ReturnType<Blaxel['SandboxInstance']['create']>>;

/** For what happens by itself, on a machine that may have other things to do. */
const PATIENCE = { timeout: 30_000, interval: 50 };

let stack: Stack;
let blaxel: Blaxel;
let sandbox: Sandbox;
const name = freshName('sdk');

beforeAll(async () => {
  stack = await testStack();
  blaxel = await loadBlaxel(stack);
  sandbox = await blaxel.SandboxInstance.create({
    name,
    image: 'blaxel/base-image:latest',
    memory: 4096,
    envs: [{ name: 'FOO', value: "a 'quoted' $value" }],
    labels: { a: 'b' },
  });
});

afterAll(async () => {
  await blaxel.SandboxInstance.delete(name);
});

describe('SandboxInstance', () => {
  it('is deployed when create answers, and can be got and listed', async () => {
    expect(sandbox.status).toBe('DEPLOYED');
    expect(sandbox.metadata.url).toContain(`/${stack.workspace}/sandboxes/${name}`);
    expect((await blaxel.SandboxInstance.get(name)).metadata.labels).toEqual({ a: 'b' });
    const names: string[] = [];
    for await (const each of await blaxel.SandboxInstance.list()) names.push(each.metadata.name);
    expect(names).toContain(name);
  });

  it('refuses a second of the name, and gives the living one to createIfNotExists', async () => {
    await expect(blaxel.SandboxInstance.create({ name })).rejects.toMatchObject({ code: expect.anything() });
    expect((await blaxel.SandboxInstance.createIfNotExists({ name })).metadata.name).toBe(name);
  });

  it('gives one sandbox to ten concurrent createIfNotExists', async () => {
    const shared = freshName('shared');
    const all = await Promise.all(
      Array.from({ length: 10 }, () => blaxel.SandboxInstance.createIfNotExists({ name: shared })),
    );
    expect(new Set(all.map((each) => each.metadata.createdAt)).size).toBe(1);
    await blaxel.SandboxInstance.delete(shared);
  });

  it('says 404 for what never was, and ends what has lived its time', async () => {
    await expect(blaxel.SandboxInstance.get('never-was')).rejects.toMatchObject({ code: 404 });
    const brief = freshName('brief');
    await blaxel.SandboxInstance.create({ name: brief, ttl: '1s' });
    await vi.waitFor(async () => expect((await blaxel.SandboxInstance.get(brief)).status).toBe('TERMINATED'), PATIENCE);
  });

  it('refuses an image nobody has, and leaves no record of the try', async () => {
    const wrong = freshName('wrong');
    await expect(blaxel.SandboxInstance.create({ name: wrong, image: 'nobody/has-this:latest' })).rejects.toBeDefined();
    await expect(blaxel.SandboxInstance.get(wrong)).rejects.toMatchObject({ code: 404 });
  });
});

describe('process', () => {
  it('runs a command to its end with its environment and both streams', async () => {
    const result = await sandbox.process.exec({
      command: 'echo "$FOO"; echo problem >&2; exit 3',
      waitForCompletion: true,
    });
    expect(result).toMatchObject({ exitCode: 3, status: 'failed', stdout: "a 'quoted' $value\n", stderr: 'problem\n' });
  });

  it('streams output as it comes', async () => {
    const lines: string[] = [];
    const result = await sandbox.process.exec({
      command: 'for i in 1 2 3; do echo n$i; sleep 0.1; done',
      waitForCompletion: true,
      onLog: (line: string) => lines.push(line),
    });
    expect(result.exitCode).toBe(0);
    expect(lines.join('\n')).toMatch(/n1[^]*n2[^]*n3/);
  });

  it('lists, finds by name, gives logs, waits and kills', async () => {
    await sandbox.process.exec({ name: 'background', command: 'echo begun; sleep 60' });
    expect((await sandbox.process.get('background')).status).toBe('running');
    expect((await sandbox.process.list()).map((each) => each.name)).toContain('background');
    await vi.waitFor(async () => expect(await sandbox.process.logs('background')).toContain('begun'), PATIENCE);
    await sandbox.process.kill('background');
    await vi.waitFor(async () => expect((await sandbox.process.get('background')).status).toBe('killed'), PATIENCE);
  });

  it('waits for a port that the program opens', async () => {
    const server = await sandbox.process.exec({
      name: 'server',
      command: 'python3 -m http.server 3000 --directory /blaxel',
      waitForPorts: [3000],
    });
    expect(server.status).toBe('running');
    await sandbox.fs.write('/blaxel/hello.txt', 'hello over HTTP');
    const answer = await sandbox.fetch(3000, '/hello.txt');
    expect(await answer.text()).toBe('hello over HTTP');
  });
});

describe('fs', () => {
  it('writes and reads text, binary and trees; lists, copies and removes', async () => {
    await sandbox.fs.write('/tmp/a.txt', 'héllo');
    expect(await sandbox.fs.read('/tmp/a.txt')).toBe('héllo');
    const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, n) => n & 255));
    await sandbox.fs.writeBinary('/tmp/b.bin', bytes);
    const back = await sandbox.fs.readBinary('/tmp/b.bin');
    expect(Buffer.from(await back.arrayBuffer())).toEqual(bytes);
    await sandbox.fs.writeTree(
      [
        { path: 'x/y.txt', content: '1' },
        { path: 'z.txt', content: '2' },
      ],
      '/tmp/tree',
    );
    expect(await sandbox.fs.read('/tmp/tree/x/y.txt')).toBe('1');
    await sandbox.fs.mkdir('/tmp/made');
    const listing = await sandbox.fs.ls('/tmp');
    expect(listing.files.map((file) => file.name)).toContain('a.txt');
    expect(listing.subdirectories.map((each) => each.path.split('/').at(-1))).toEqual(
      expect.arrayContaining(['made', 'tree']),
    );
    await sandbox.fs.cp('/tmp/a.txt', '/tmp/c.txt');
    expect(await sandbox.fs.read('/tmp/c.txt')).toBe('héllo');
    await sandbox.fs.rm('/tmp/c.txt');
    await expect(sandbox.fs.read('/tmp/c.txt')).rejects.toBeDefined();
  });

  it('uploads what is too large for one request in parts', async () => {
    const large = Buffer.alloc(12 << 20, 'large ');
    await sandbox.fs.writeBinary('/tmp/large.bin', large);
    const { exitCode, stdout } = await sandbox.process.exec({
      command: 'stat -c %s /tmp/large.bin',
      waitForCompletion: true,
    });
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: `${large.length}\n` });
  });
});

describe('previews', () => {
  it('leads by path to a port, publicly or by token', async () => {
    const open = await sandbox.previews.create({ metadata: { name: 'open' }, spec: { port: 3000, public: true } });
    const url = open.spec?.url ?? '';
    expect(url).toContain('preview');
    expect(await (await fetch(`${url}/hello.txt`)).text()).toBe('hello over HTTP');
    const closed = await sandbox.previews.create({ metadata: { name: 'closed' }, spec: { port: 3000, public: false } });
    const closedUrl = closed.spec?.url ?? '';
    expect((await fetch(`${closedUrl}/hello.txt`)).status).toBe(401);
    const token = await closed.tokens.create(new Date(Date.now() + 60_000));
    expect((await fetch(`${closedUrl}/hello.txt?bl_preview_token=${token.value}`)).status).toBe(200);
  });
});

describe('packages', () => {
  it('installs from the registries that the host uses', { timeout: 180_000 }, async () => {
    const npm = await sandbox.process.exec({
      command:
        'mkdir -p /tmp/n && cd /tmp/n && npm init -y >/dev/null && npm install is-number 2>&1 && node -e "console.log(require(\'is-number\')(5))"',
      waitForCompletion: true,
      timeout: 150,
    });
    expect(npm.logs).toContain('true');
    const pip = await sandbox.process.exec({
      command: 'pip install six 2>&1 && python3 -c "import six; print(six.__name__)"',
      waitForCompletion: true,
      timeout: 150,
    });
    expect(pip.logs).toMatch(/six$/m);
  });
});
