import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';

/** The launcher on a checkout of its own, with an npm and a pnpm that make in a moment what the real ones fetch. */
let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'torpor-launcher-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  for (const path of ['checkout/apps/cli/src', 'checkout/packages/a', 'checkout/test', 'bin'])
    await mkdir(join(root, path), { recursive: true });
  await copyFile(join(import.meta.dirname, '../../../../torpor'), join(root, 'checkout/torpor'));
  for (const path of ['package.json', 'apps/cli/package.json', 'packages/a/package.json', 'test/package.json'])
    await put(`checkout/${path}`, '{}');
  await put('checkout/pnpm-lock.yaml', 'lock 1');
  await put('checkout/pnpm-workspace.yaml', '');
  await put('checkout/apps/cli/src/main.ts', 'console.log(JSON.stringify(process.argv.slice(2)))');
  await program('bin/node', 'echo v18.0.0');
  await program('bin/npm', await npm(''));
});

async function put(path: string, text: string): Promise<void> {
  await writeFile(join(root, path), text);
}

async function program(path: string, script: string): Promise<void> {
  await put(path, `#!/bin/sh\nset -eu\n${script}\n`);
  await chmod(join(root, path), 0o755);
}

/** Notes each call; makes the two packages asked for below --prefix. `first` goes before the making. */
async function npm(first: string): Promise<string> {
  return `echo npm >>${root}/calls
prefix=$3
${first}
for package in "$@"; do case $package in
  node-linux-*) mkdir -p "$prefix/node_modules/\${package%@*}/bin"; ln -s ${process.execPath} "$prefix/node_modules/\${package%@*}/bin/node" ;;
  @pnpm/*) mkdir -p "$prefix/node_modules/\${package%@*}"
    printf '#!/bin/sh\\nset -e\\necho pnpm >>${root}/calls\\nmkdir -p ${root}/checkout/node_modules\\n[ ! -e ${root}/pnpm-fails ] || { echo "no such package"; exit 1; }\\n' >"$prefix/node_modules/\${package%@*}/pnpm"
    chmod +x "$prefix/node_modules/\${package%@*}/pnpm" ;;
esac; done`;
}

function start(...args: string[]): {
  child: ReturnType<typeof spawn>;
  ended: Promise<{ code: number | null; stdout: string; stderr: string }>;
} {
  const env = {
    PATH: `${join(root, 'bin')}:/usr/sbin:/usr/bin:/sbin:/bin`,
    TORPOR_CACHE: join(root, 'cache'),
    HOME: root,
  };
  const child = spawn(join(root, 'checkout/torpor'), args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return { child, ended: once(child, 'close').then(([code]) => ({ code, stdout, stderr })) };
}

async function calls(): Promise<string[]> {
  return (await readFile(join(root, 'calls'), 'utf8').catch(() => '')).split('\n').filter(Boolean);
}

describe('./torpor', () => {
  it('installs Node and the packages once, says so, and hands its arguments over as they are', async () => {
    const first = await start('sandbox', 'exec', 'a b', '').ended;
    expect(first.code).toBe(0);
    expect(JSON.parse(first.stdout)).toEqual(['sandbox', 'exec', 'a b', '']);
    expect(first.stderr).toMatch(/from npm: done in \d+ s[\s\S]*packages of pnpm-lock.yaml: done in \d+ s/);
    const second = await start('down').ended;
    expect(second).toEqual({ code: 0, stdout: '["down"]\n', stderr: '' });
    expect(await calls()).toEqual(['npm', 'pnpm']);
  });

  it('installs the packages again when the lockfile changes', async () => {
    await start().ended;
    await put('checkout/pnpm-lock.yaml', 'lock 2');
    await start().ended;
    expect(await calls()).toEqual(['npm', 'pnpm', 'pnpm']);
  });

  it('makes each thing once when started twice at the same time', async () => {
    await program('bin/npm', await npm('sleep 1'));
    const both = await Promise.all([start('a').ended, start('b').ended]);
    expect(both.map((end) => [end.code, end.stdout])).toEqual([
      [0, '["a"]\n'],
      [0, '["b"]\n'],
    ]);
    expect(await calls()).toEqual(['npm', 'pnpm']);
  });

  it('takes an interrupted step up again and leaves nothing of the first try', async () => {
    await program('bin/npm', await npm('exec sleep 60'));
    const { child, ended } = start();
    while ((await calls()).length === 0) await sleep(20); // until npm runs
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({ code: 130, stderr: expect.stringContaining('interrupted') });
    await program('bin/npm', await npm(''));
    expect((await start('x').ended).code).toBe(0);
    expect((await readdir(join(root, 'cache'))).filter((name) => name.includes('.tmp-'))).toEqual([]);
  });

  it('says what failed, the end of its log and what to do, and tries again the next time', async () => {
    await put('pnpm-fails', '');
    const failed = await start().ended;
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(
      /packages of pnpm-lock.yaml failed\.\n {2}\| no such package\n.*Whole log: .*\n.*Next: /,
    );
    await rm(join(root, 'pnpm-fails'));
    expect((await start().ended).code).toBe(0);
  });
});
