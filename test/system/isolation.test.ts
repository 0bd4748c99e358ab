/** What a sandbox can do to the host and to its neighbours with files, processes and memory: nothing, and whatever it does to itself is told truthfully. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { api, type SandboxFacts } from '../bench/lib/api.ts';
import { cgroupFile, memoryBytes, swapBytes } from '../bench/lib/host.ts';
import { createOne, deleteMany, fileUrl, putFile, type Made } from '../bench/lib/sandboxes.ts';
import { client, expectOk, patient, timed, type Stack } from '../bench/lib/stack.ts';
import { ask, sh, start, type Ended } from './inside.ts';
import { freshName, isFull, testStack } from './test-stack.ts';

const exec = promisify(execFile);
const SECRET = `host-secret-${process.pid}-${Date.now()}`;

/** For what happens by itself, on a machine that may have other things to do. */
const PATIENCE = { timeout: 30_000, interval: 100 };

let stack: Stack;
let tenant: Made;
let neighbour: Made;
let hostDir: string;
const made: Made[] = [];

async function remove(sandbox: Made): Promise<void> {
  made.splice(made.indexOf(sandbox), 1);
  await api(stack).delete(sandbox.name);
}

async function create(label: string, more: Record<string, unknown> = {}): Promise<Made> {
  const sandbox = await createOne(stack, freshName(label), { idle: { kind: 'never' }, ...more });
  made.push(sandbox);
  return sandbox;
}

beforeAll(async () => {
  stack = await testStack();
  tenant = await create('tenant');
  neighbour = await create('neighbour');
  hostDir = await mkdtemp('/var/tmp/torpor-canary-');
  await writeFile(join(hostDir, 'secret'), SECRET);
});

afterAll(async () => {
  await rm(hostDir, { recursive: true, force: true });
  await deleteMany(stack, made);
});

const onHost = async (line: string) =>
  (await exec('bash', ['-c', line]).catch((error: { stdout: string }) => error)).stdout;
const inside = async (line: string) => (await sh(stack, tenant, line)).stdout;

describe('files of the host', () => {
  it('are not there, by whatever way one walks', async () => {
    const file = `${hostDir}/secret`;
    const ways = [
      `cat ${file}`,
      `cat /proc/self/root${file}`,
      `cat /proc/$PPID/root${file}`, // inside, the parent is its first process
      `cd /proc/self/cwd && cat ../../../../../../../..${file}`,
      `d=$(mktemp -d) && ln -s ${file} $d/l && cat $d/l; rm -r $d`,
      `d=$(mktemp -d) && ln -s / $d/l && cat $d/l${file}; rm -r $d`,
      // Out of a root by keeping a directory from before it was changed.
      `d=$(mktemp -d) && perl -e 'opendir(D, "/"); chroot($ARGV[0]); chdir(*D); chdir("..") for 1..40; chroot("."); open(F, $ARGV[1]); print <F>' $d ${file}; rm -r $d`,
    ];
    for (const way of ways) {
      const seen = { way, inside: (await inside(way)).includes(SECRET), onHost: (await onHost(way)).includes(SECRET) };
      expect(seen).toEqual({ way, inside: false, onHost: true });
    }
  });

  it('are not on any device that the sandbox can make', async () => {
    const devices = (await readFile('/proc/partitions', 'utf8')).matchAll(/^\s*(\d+)\s+(\d+)\s+[1-9]\d*\s+\S+$/gm);
    const ways = Array.from(
      devices,
      ([, major, minor]) => `d=$(mktemp -d); mknod $d/b b ${major} ${minor} && head -c 512 $d/b | wc -c; rm -r $d`,
    );
    expect(ways.length).toBeGreaterThan(0);
    for (const way of ways.slice(0, 4)) expect([way, (await inside(way)).trim()]).not.toEqual([way, '512']);
    const read = await Promise.all(ways.map(onHost));
    expect(read.map((text) => text.trim())).toContain('512');
  });

  it('are not behind a link that the file API follows', async () => {
    const via = client(stack.url);
    const get = (path: string) =>
      timed(via, fileUrl(stack, tenant, path), { headers: { ...stack.headers, accept: 'application/octet-stream' } });
    await sh(
      stack,
      tenant,
      `cd /tmp && echo own > own && ln -s own to-own && ln -s ${hostDir}/secret to-secret && ln -s /etc/shadow to-shadow && ln -s / to-root && ln -s turn turn && ln -s ${hostDir} to-dir`,
    );
    expect((await get('/tmp/to-own')).body.toString()).toBe('own\n');
    for (const path of [
      '/tmp/to-secret',
      `/tmp/to-root${hostDir}/secret`,
      `/tmp/../../../..${hostDir}/secret`,
      `/proc/1/root${hostDir}/secret`,
      '/tmp/to-dir/secret',
      '/tmp/turn',
    ]) {
      const { status, body } = await get(path);
      expect([path, [400, 403, 404].includes(status)]).toEqual([path, true]);
      expect(body.toString()).not.toContain(SECRET);
    }
    expect((await get('/tmp/to-shadow')).body.toString()).toBe((await sh(stack, tenant, 'cat /etc/shadow')).stdout);
    expect((await get('/tmp/to-shadow')).body.toString()).not.toBe(await readFile('/etc/shadow', 'utf8'));
  });

  it('are neither found nor changed by any other call of the file API that meets a link', async () => {
    const via = client(stack.url);
    const call = (method: 'GET' | 'PUT' | 'POST' | 'DELETE', path: string, body?: unknown) =>
      timed(via, `${tenant.url}${path}`, {
        method,
        headers: { ...stack.headers, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    const linkTo = (target: string, name: string) => `rm -rf /tmp/${name} && ln -s ${target} /tmp/${name}`;
    await sh(stack, tenant, [linkTo(hostDir, 'to-dir'), linkTo(`${hostDir}/secret`, 'to-secret')].join(' && '));
    const found = [
      await call('GET', `/filesystem/tree/${encodeURIComponent('/tmp/to-dir')}`),
      await call('GET', `/filesystem-find/${encodeURIComponent('/tmp/to-dir')}?patterns=*`),
      await call('GET', `/filesystem-content-search/${encodeURIComponent('/tmp')}?query=${SECRET}`),
      await call('GET', `/filesystem-content-search/${encodeURIComponent('/tmp/to-dir/')}?query=${SECRET}`),
    ];
    // What is asked for is told back; that a file holds it is not.
    for (const { body } of found) expect(body.toString()).not.toMatch(/"(name|path)":"[^"]*\bsecret"/);

    await call('PUT', `/filesystem/${encodeURIComponent('/tmp/to-secret')}`, { content: 'overwritten' });
    await call('PUT', `/filesystem/${encodeURIComponent('/tmp/to-dir/planted')}`, { content: 'planted' });
    await call('PUT', `/filesystem/tree/${encodeURIComponent('/tmp/to-dir')}`, { files: { planted: 'planted' } });
    // The dialect's own workshop is the tenant's to bend as well.
    const workshop = '/var/tmp/.torpor-uploads';
    await sh(stack, tenant, `rm -rf ${workshop} && ln -s ${hostDir} ${workshop}`);
    await call('POST', `/filesystem-multipart/initiate/${encodeURIComponent('/tmp/planted')}`, {});
    await sh(stack, tenant, `rm ${workshop}`);
    await call('DELETE', `/filesystem/${encodeURIComponent('/tmp/to-secret')}`);
    await call('DELETE', `/filesystem/${encodeURIComponent('/tmp/to-dir')}?recursive=true`);
    expect([await readdir(hostDir), await readFile(join(hostDir, 'secret'), 'utf8')]).toEqual([['secret'], SECRET]);
    // The control: on the host such a link leads there.
    const outside = await mkdtemp('/var/tmp/torpor-links-');
    try {
      await symlink(hostDir, join(outside, 'to-dir'));
      expect(await readFile(join(outside, 'to-dir/secret'), 'utf8')).toBe(SECRET);
    } finally {
      await rm(outside, { recursive: true });
    }
  });
});

describe('switches of the kernel', () => {
  const HARMLESS = ['/proc/sys/vm/swappiness', '/sys/kernel/mm/transparent_hugepage/khugepaged/pages_to_scan'];

  it('are not moved from inside', async () => {
    const switches = [
      '/proc/sys/kernel/core_pattern',
      '/proc/sys/kernel/hostname',
      '/proc/sys/net/ipv4/ip_forward',
      '/proc/sys/vm/swappiness',
      '/proc/sys/kernel/panic',
      '/sys/kernel/uevent_helper',
      '/sys/kernel/mm/transparent_hugepage/enabled',
      ...HARMLESS,
    ].filter(existsSync);
    const before = await Promise.all(switches.map((path) => readFile(path, 'utf8')));
    await sh(
      stack,
      tenant,
      `${switches.map((path) => `echo 1 > ${path}`).join('; ')}; echo h > /proc/sysrq-trigger; echo x > /proc/sys/kernel/hostname; true`,
    );
    expect(await Promise.all(switches.map((path) => readFile(path, 'utf8')))).toEqual(before);
    // The control: whoever is not inside moves them, here to where they are.
    for (const path of HARMLESS)
      expect(await onHost(`v=$(cat ${path}) && echo $v > ${path} && echo moved`)).toBe('moved\n');
  });

  it('of its own limits are not to be found', async () => {
    const file = cgroupFile(stack.scope, tenant.hostId, 'pids', 'pids.max');
    const limit = async () => readFile(file, 'utf8');
    const before = await limit();
    await inside(
      'for f in $(find /sys/fs/cgroup /proc/self/cgroup -type f 2>/dev/null); do echo max > $f; echo -1 > $f; echo $$ > $f; done; true',
    );
    expect(await limit()).toBe(before);
    expect(Number(before)).toBeGreaterThan(0);
    expect(await onHost(`echo ${before.trim()} > ${file} && echo moved`)).toBe('moved\n');
  });
});

describe('a sandbox that takes all it can', () => {
  /** Each takes so much and says how much it has got. */
  const GREEDY = {
    processes: {
      shape: {},
      take: (count: number) =>
        `perl -e 'for (1..$ARGV[0]) { my $p = fork; last unless defined $p; if (!$p) { sleep 60; exit } push @all, $p } print scalar(@all), "\\n"; kill 9, @all' ${count}`,
      little: 10,
      much: 1_100,
    },
    memory: {
      shape: { memoryMib: 512, diskMib: 1_024 },
      take: (bytes: number) => `perl -e '$x = "x" x $ARGV[0]; print length($x), "\\n"' ${bytes}`,
      little: 10 << 20,
      much: 700 << 20,
    },
    disk: {
      shape: { memoryMib: 512, diskMib: 128 },
      take: (bytes: number) => `f=$(mktemp -p /var/tmp) && head -c ${bytes} /dev/zero > $f; sync $f; wc -c < $f; rm $f`,
      little: 10 << 20,
      much: 200 << 20,
    },
  } as const;

  it.each(Object.entries(GREEDY))(
    'gets no more %s than it has, though the host has more',
    { timeout: 180_000 },
    async (_, { shape, take, little, much }) => {
      const greedy = await create('greedy', shape);
      expect((await sh(stack, greedy, take(little))).stdout.trim()).toBe(String(little));
      const answer = await ask(stack, greedy, take(much), 60).catch(() => undefined); // its sandbox may end under it
      const got = answer?.status === 200 ? (JSON.parse(answer.body.toString()) as Ended).stdout.trim() : 'nothing';
      expect(got).not.toBe(String(much));
      expect((await onHost(take(much))).trim()).toBe(String(much));
      await expectTruth(greedy);
      await remove(greedy);
    },
  );

  it('forks without end: meets its own limit, and others do not notice', { timeout: 180_000 }, async () => {
    const bomb = await create('bomb');
    const limit = Number(await readFile(cgroupFile(stack.scope, bomb.hostId, 'pids', 'pids.max'), 'utf8'));
    await ask(stack, bomb, `printf ':(){ :|:& };:' > /tmp/bomb`);
    const ended = ask(stack, bomb, 'bash /tmp/bomb; sleep 5', 20).catch(() => undefined); // its sandbox may end under it
    let most = 0;
    for (let turn = 0; turn < 8; turn++) {
      most = Math.max(
        most,
        Number(await readFile(cgroupFile(stack.scope, bomb.hostId, 'pids', 'pids.current'), 'utf8').catch(() => '0')),
      );
      const began = performance.now();
      expect((await sh(stack, neighbour, 'echo here')).stdout).toBe('here\n');
      expect(performance.now() - began).toBeLessThan(15_000);
    }
    expect(most).toBeLessThanOrEqual(limit);
    await ended;
    await expectTruth(bomb);
    await remove(bomb);
    expect((await sh(stack, await create('after-bomb'), 'echo new')).stdout).toBe('new\n');
  });

  const HOGS = {
    'in one program': `python3 -c 'b=[]\nwhile True: b.append(b"x"*(8<<20))'`,
    'in many': `for i in $(seq 40); do python3 -c 'import time; b=b"x"*(30<<20); time.sleep(20)' & done; wait`,
    'in files that lie in memory': 'cat /dev/zero > /dev/shm/a; cat /dev/zero > /tmp/a; wc -c /dev/shm/a',
  } as const;

  it.each(Object.entries(HOGS))(
    'takes memory %s: stays below its limit, and lives or is said to have failed',
    { timeout: 180_000 },
    async (_, line) => {
      const hog = await create('hog', { memoryMib: 512, diskMib: 1_024 });
      let most = 0;
      const held = async () =>
        (await memoryBytes(stack.scope, hog.hostId)) + (await swapBytes(stack.scope, hog.hostId));
      const looking = new AbortController();
      const looks = (async () => {
        while (!looking.signal.aborted) {
          most = Math.max(most, await held().catch(() => 0));
          await new Promise((again) => setTimeout(again, 50));
        }
      })();
      await putFile(client(stack.url, 1), stack, hog, '/tmp/hog.sh', line);
      await ask(stack, hog, 'bash /tmp/hog.sh', 30).catch(() => undefined); // its sandbox may end under it
      looking.abort();
      await looks;
      // The kernel charges in batches of 64 pages a CPU, so the count may stand a little above the limit that it holds.
      expect(most).toBeLessThanOrEqual((512 << 20) + 4 * availableParallelism() * (64 << 12));
      await expectTruth(hog);
      expect((await sh(stack, neighbour, 'echo here')).stdout).toBe('here\n');
    },
  );

  it(
    'uses every processor, its memory and its disk: a neighbour’s wake takes at most five times as long',
    { timeout: 300_000 },
    async () => {
      const via = client(stack.url, 1);
      await putFile(via, stack, neighbour, '/tmp/small', 'x');
      const wakes = async (count: number) => {
        const took: number[] = [];
        for (let turn = 0; turn < count; turn++) {
          await api(stack).pause(neighbour.name);
          took.push(
            (await expectOk(via, fileUrl(stack, neighbour, '/tmp/small'), { headers: { ...stack.headers } })).tookMs,
          );
        }
        return took.toSorted((a, b) => a - b)[Math.floor(count / 2)] ?? Number.NaN;
      };
      const beside = async (count: number) => {
        const hog = await create('hog', { memoryMib: 1_024, cpus: availableParallelism() });
        const lines = [
          ...Array.from({ length: availableParallelism() * 2 }, () => 'while :; do :; done'),
          `python3 -c 'while True: bytearray(400<<20)'`,
          'while :; do dd if=/dev/zero of=/var/tmp/x bs=1M count=64 conv=fsync 2>/dev/null; done',
        ];
        await Promise.all(lines.map((line, at) => start(stack, hog, `hog-${at}`, line)));
        const median = await wakes(count);
        expect((await api(stack).get(hog.name)).state).toBe('running');
        await remove(hog);
        return median;
      };
      const count = isFull ? 100 : 25;
      await wakes(5);
      // Another program on the machine may disturb one half of a comparison: it counts if it disturbs three.
      const ratios: number[] = [];
      for (let turn = 0; turn < 3 && !ratios.some((ratio) => ratio <= 5); turn++) {
        const [alone, hogged] = [await wakes(count), await beside(count)];
        ratios.push(hogged / alone);
        console.log(`wake p50: alone ${alone.toFixed(2)} ms, beside a hog ${hogged.toFixed(2)} ms`);
      }
      expect(Math.min(...ratios), `beside a hog ${ratios.join(', ')} times as long`).toBeLessThanOrEqual(5);
    },
  );

  it(
    'ends its own first process: is said to have failed within seconds, its streams end, and it can be deleted',
    { timeout: 180_000 },
    async () => {
      const own = await create('suicide');
      await start(stack, own, 'talker', 'while :; do echo x; sleep 0.2; done');
      const { body } = await request(`${own.url}/process/talker/logs/stream`, {
        dispatcher: patient,
        headers: { ...stack.headers },
      });
      let pieces = 0;
      const streamed = (async () => {
        for await (const _ of body) pieces++;
      })().catch(() => undefined); // cut or ended: either tells the reader
      await vi.waitFor(() => expect(pieces).toBeGreaterThan(0), PATIENCE);
      const began = performance.now();
      await ask(stack, own, 'kill -9 1').catch(() => undefined); // nobody is left to answer
      await streamed;
      expect(performance.now() - began).toBeLessThan(10_000);
      await vi.waitFor(
        async () =>
          expect(await factsOf(own)).toMatchObject({ phase: 'failed', reason: expect.stringMatching(/gone/) }),
        PATIENCE,
      );
      // Who asks it again hears the same; the gateway may have heard it a moment later.
      await vi.waitFor(async () => {
        const { status, body: refusal } = await ask(stack, own, 'echo again');
        expect([status, refusal.toString()]).toEqual([410, expect.stringContaining('failed')]);
      }, PATIENCE);
      await remove(own);
      await vi.waitFor(() => expect(existsSync(cgroupFile(stack.scope, own.hostId, 'pids', ''))).toBe(false), PATIENCE);
    },
  );
});

type Facts = SandboxFacts & { readonly phase?: string; readonly reason?: string };
function factsOf(sandbox: Made): Promise<Facts> {
  return api(stack).get(sandbox.name);
}

/** Either it answers, or it is said to have failed and why. Nothing between the two for long. */
async function expectTruth(sandbox: Made): Promise<void> {
  await vi.waitFor(
    async () => {
      const { phase, reason } = await factsOf(sandbox);
      const told = phase === 'failed' ? reason : (await ask(stack, sandbox, 'echo alive', 5)).body.toString();
      expect(told).toMatch(phase === 'failed' ? /\w{4}/ : /"stdout":"alive/);
    },
    { timeout: 60_000, interval: 200 },
  );
}
