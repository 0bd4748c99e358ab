/** A sandbox's disk ends where it was said to, and one that is full is nobody else's trouble. */
import { readFile, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { createOne, putFile, type Made } from '../bench/lib/sandboxes.ts';
import { client, stackUp, timed, torpor, type Stack } from '../bench/lib/stack.ts';
import { python, sh } from './inside.ts';
import { freshName, isFull, testEnv, testStack } from './test-stack.ts';

const MIB = 1 << 20;

/** Writes random bytes, synced every 16 MiB, until the disk says no. */
const FILL = `
import errno, json, os, sys
path = json.load(sys.stdin)
file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
block, written, refusal = os.urandom(1 << 20), 0, None
try:
    while True:
        written += os.write(file, block)
        if written % (16 << 20) == 0: os.fsync(file)
except OSError as e: refusal = errno.errorcode[e.errno]
try: os.fsync(file)
except OSError as e: refusal += " then " + errno.errorcode[e.errno]
print(json.dumps({"written": written, "refusal": refusal, "kept": os.stat(path).st_blocks * 512}))
`;

/** Appends and syncs until told to stop; says every error of a write and of a sync apart. */
const SYNC = `
import errno, json, os, sys, time
stop = json.load(sys.stdin)
file = os.open("/var/tmp/synced", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
count, slowest, refused, failed = 0, 0.0, [], []
end = time.time() + 60
while not os.path.exists(stop) and time.time() < end:
    began = time.time()
    try: os.write(file, os.urandom(4096))
    except OSError as e: refused.append(errno.errorcode[e.errno]); time.sleep(0.01)
    try: os.fsync(file); count += 1
    except OSError as e: failed.append(errno.errorcode[e.errno])
    slowest = max(slowest, time.time() - began)
print(json.dumps({"count": count, "slowestMs": slowest * 1000, "refused": sorted(set(refused)), "failed": sorted(set(failed))}))
`;

interface Filled {
  readonly written: number;
  readonly refusal: string;
  readonly kept: number;
}

interface Synced {
  readonly count: number;
  readonly slowestMs: number;
  readonly refused: readonly string[];
  readonly failed: readonly string[];
}

const fill = (stack: Stack, sandbox: Made, path = '/var/tmp/fill') =>
  python(stack, sandbox, FILL, path, 60) as Promise<Filled>;
const create = (stack: Stack, label: string, diskMib: number) =>
  createOne(stack, freshName(label), { diskMib, idle: { kind: 'never' } });

/** Has a neighbour sync while the work is done. */
async function whileSyncing(stack: Stack, neighbour: Made, work: () => Promise<void>): Promise<Synced> {
  const stop = `/tmp/stop-${Date.now()}`;
  const synced = python(stack, neighbour, SYNC, stop, 90) as Promise<Synced>;
  try {
    await work();
  } finally {
    await putFile(client(stack.url, 1), stack, neighbour, stop, '');
  }
  return synced;
}

async function freeMib(stack: Stack): Promise<number> {
  // Not `bavail`: btrfs says 0 there when its metadata is nearly full, whatever is free.
  const { bfree, bsize } = await statfs(join(stack.stateDir, 'pool'));
  return (bfree * bsize) / MIB;
}

describe('a disk of 1 GiB', () => {
  let stack: Stack;
  let filler: Made;
  let neighbour: Made;
  beforeAll(async () => {
    stack = await testStack();
    filler = await create(stack, 'filler', 1_024);
    neighbour = await create(stack, 'syncer', 1_024);
  });
  afterAll(() => api(stack).delete(neighbour.name));

  it('ends at 1 GiB ± 5 %, while a neighbour’s every fsync succeeds', { timeout: 120_000 }, async () => {
    let filled: Filled | undefined;
    const synced = await whileSyncing(stack, neighbour, async () => {
      filled = await fill(stack, filler);
    });
    console.log(
      `refused with ${filled?.refusal} after ${(filled?.written ?? 0) / MIB} MiB; the neighbour synced ${synced.count} times, slowest ${synced.slowestMs.toFixed(0)} ms`,
    );
    expect(filled?.refusal).toMatch(/^(ENOSPC|EDQUOT)$/);
    expect((filled?.written ?? 0) / (1_024 * MIB)).toBeGreaterThan(0.95);
    expect((filled?.kept ?? 0) / (1_024 * MIB)).toBeLessThan(1.05);
    expect(synced).toMatchObject({ refused: [], failed: [] });
    expect(synced.count).toBeGreaterThan(10);
  });

  it('that is full stays readable, and takes bytes again when some are removed', { timeout: 60_000 }, async () => {
    expect((await sh(stack, filler, 'head -c 100 /var/tmp/fill | wc -c')).stdout.trim()).toBe('100');
    const refused = await timed(client(stack.url, 1), `${filler.url}/filesystem/%2Fvar%2Ftmp%2Fmore`, {
      method: 'PUT',
      headers: { ...stack.headers, 'content-type': 'application/json' },
      body: JSON.stringify({ content: 'x'.repeat(900 * 1_024) }),
    });
    expect([refused.status, refused.body.toString()]).toEqual([507, expect.stringMatching(/space|quota/i)]);
    await sh(stack, filler, 'rm /var/tmp/fill');
    await vi.waitFor(
      async () =>
        expect(await sh(stack, filler, 'dd if=/dev/zero of=/var/tmp/again bs=1M count=200 conv=fsync')).toMatchObject({
          exitCode: 0,
        }),
      { timeout: 15_000, interval: 500 },
    );
  });

  it('gives its space back when its sandbox is deleted', { timeout: 60_000 }, async () => {
    await fill(stack, filler, '/var/tmp/last');
    const before = await freeMib(stack);
    await api(stack).delete(filler.name);
    await vi.waitFor(async () => expect(await freeMib(stack)).toBeGreaterThan(before + 900), {
      timeout: 45_000,
      interval: 250,
    });
  });
});

describe.runIf(isFull)('a pool that is full', () => {
  const env = { ...testEnv, TORPOR_INSTALLATION: `${testEnv.TORPOR_INSTALLATION} with a small disk` };
  let stack: Stack;
  beforeAll(async () => {
    await torpor(['down', '--purge'], env);
    stack = await stackUp(['--pool', '1', '--disk', '2'], env);
  });
  afterAll(async () => {
    await torpor(['down', '--purge'], env);
  });

  it(
    'refuses creates with 503, breaks no fsync, turns nothing read-only, and is well again after a delete',
    { timeout: 240_000 },
    async () => {
      const neighbour = await create(stack, 'syncer', 512);
      const fillers = [await create(stack, 'first', 1_024), await create(stack, 'second', 1_024)];
      const synced = await whileSyncing(stack, neighbour, async () => {
        const filled = await Promise.all(fillers.map((filler) => fill(stack, filler)));
        for (const { refusal } of filled) expect(refusal).toMatch(/^(ENOSPC|EDQUOT)$/);
        expect(filled.reduce((sum, { kept }) => sum + kept, 0)).toBeLessThan(2_048 * MIB);
        expect(await freeMib(stack)).toBeGreaterThan(0);
        await expectFull(stack);
      });
      // A pool that is full for all refuses a write; what it has taken it keeps.
      expect(synced.failed).toEqual([]);
      expect(synced.refused.filter((error) => !/^(ENOSPC|EDQUOT)$/.test(error))).toEqual([]);
      const mounts = await readFile('/proc/self/mounts', 'utf8');
      expect(mounts).toMatch(new RegExp(`^\\S+ ${join(stack.stateDir, 'pool')} btrfs rw`, 'm'));
      for (const sandbox of [neighbour, ...fillers]) {
        await api(stack).pause(sandbox.name);
        expect(
          (
            await sh(stack, sandbox, 'cat /var/tmp/fill /var/tmp/synced 2>/dev/null | head -c 10 | wc -c')
          ).stdout.trim(),
        ).toBe('10');
      }
      for (const filler of fillers) await api(stack).delete(filler.name);
      await vi.waitFor(
        async () =>
          expect(await sh(stack, await create(stack, 'after', 256), 'echo well')).toMatchObject({ stdout: 'well\n' }),
        { timeout: 60_000, interval: 500 },
      );
      expect(await sh(stack, neighbour, 'dd if=/dev/zero of=/var/tmp/more bs=1M count=50 conv=fsync')).toMatchObject({
        exitCode: 0,
      });
    },
  );
});

/** Within a heartbeat or two both dialects refuse: by 503, in their own shape, saying that room is wanting. */
async function expectFull(stack: Stack): Promise<void> {
  const via = client(stack.url, 1);
  const headers = { ...stack.headers, 'content-type': 'application/json' };
  const name = freshName('refused');
  await vi.waitFor(
    async () => {
      const blaxel = await timed(via, `${stack.url}/v0/sandboxes`, {
        method: 'POST',
        headers,
        body: JSON.stringify({
          metadata: { name },
          spec: { runtime: { image: 'blaxel/base-image:latest', memory: 4096 } },
        }),
      });
      if (blaxel.status === 200) await timed(via, `${stack.url}/v0/sandboxes/${name}`, { method: 'DELETE', headers });
      expect([blaxel.status, JSON.parse(blaxel.body.toString())]).toEqual([
        503,
        expect.objectContaining({
          code: 'CAPACITY_UNAVAILABLE',
          message: expect.stringMatching(/disk|room|capacity|space/i),
        }),
      ]);
    },
    { timeout: 20_000, interval: 250 },
  );
  const own = await timed(via, `${stack.url}/trpc/sandboxes.create`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ name: freshName('refused') }),
  });
  expect([own.status, own.body.toString()]).toEqual([503, expect.stringMatching(/disk|room|capacity|space/i)]);
  expect(own.headers['retry-after'] ?? own.body.toString()).toMatch(/\d|retryable":true/);
}
