import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createSandbox, deleteSandbox, keyRevoked } from '@torpor/contracts';
import { Failure, systemClock, type Clock } from '@torpor/kernel';
import { describeWire } from './conformance.ts';
import { natsWire } from './nats-wire.ts';
import { roomPermissions } from './permissions.ts';
import type { PulseTimes } from './pulse.ts';

/** The real server, as `torpor up` configures it. `./torpor test` says where its binary is. */
const binary = process.env.TORPOR_NATS_SERVER ?? '';

describe.skipIf(!existsSync(binary))('with a real nats-server (TORPOR_NATS_SERVER names the binary)', () => {
  let server: ReturnType<typeof startServer>;
  beforeAll(() => {
    server = startServer();
  });
  afterAll(async () => (await server).end());

  describeWire('the NATS wire', async () => {
    const { open } = await server;
    const asking = await open('gateway');
    const serving = await open('scheduler');
    const node = await open('node-a');
    return {
      asking,
      serving,
      node,
      close: async () => {
        await asking.close();
        await serving.close();
        await node.close();
      },
    };
  });

  describe('a slow answer', () => {
    const ask = deleteSandbox.request.parse({ workspace: 'main', name: 'web', reason: 'test' });
    const pulse = { everyMs: 50, silenceMs: 300 };

    it('is waited for as long as its room lives, and no longer', async () => {
      const { open } = await server;
      const asking = await open('gateway', pulse);
      const serving = await open('scheduler', pulse);
      await serving.serve(deleteSandbox, () => new Promise(() => {}));
      const began = performance.now();
      let endedMs: number | undefined;
      const ended = asking.ask(deleteSandbox, ask).catch((error: unknown) => {
        endedMs = performance.now() - began;
        throw error;
      });
      // Longer than its silence would be believed: time itself is tested.
      await new Promise((resolve) => setTimeout(resolve, 700));
      expect(endedMs).toBeUndefined();
      await serving.close();
      await expect(ended).rejects.toMatchObject({ code: 'unavailable', retryable: true });
      expect(endedMs).toBeLessThan(5_000);
      await asking.close();
    });
  });

  describe('hosts whose clocks disagree by days', () => {
    const ask = deleteSandbox.request.parse({ workspace: 'main', name: 'web', reason: 'test' });

    it.each([-3, 3])('speak as any others: by %i days', async (days) => {
      const { open } = await server;
      const skewed = { ...systemClock, nowMs: () => Date.now() + days * 24 * 3_600_000 };
      const asking = await open('gateway');
      const serving = await open('scheduler', undefined, skewed);
      await serving.serve(deleteSandbox, async (_, { signal }) => {
        throw new Failure('not_found', signal.aborted ? 'too late' : 'in time');
      });
      await expect(asking.ask(deleteSandbox, ask)).rejects.toMatchObject({ code: 'not_found', message: 'in time' });
      await Promise.all([asking.close(), serving.close()]);
    });
  });

  it('a request that is larger than the server takes never leaves, and is told for what it is', async () => {
    const wire = await (await server).open('anyone');
    const heard: unknown[] = [];
    await wire.serve(createSandbox, async (ask) => {
      heard.push(ask);
      throw new Failure('not_found', 'heard');
    });
    const ask = (value: string) => createSandbox.request.parse({ ...SMALL_ASK, env: { A: value } });
    await expect(wire.ask(createSandbox, ask('x'.repeat(1 << 20)))).rejects.toMatchObject({
      code: 'too_large',
      retryable: false,
    });
    await expect(wire.ask(createSandbox, ask('x'))).rejects.toMatchObject({ message: 'heard' });
    expect(heard).toHaveLength(1);
    await wire.close();
  });

  describe('while the server is away', () => {
    const ask = (name: string) => deleteSandbox.request.parse({ workspace: 'main', name, reason: 'test' });

    it('an ask waits for it as long as its deadline allows, and is not carried out afterwards', async () => {
      const { open, stop, start } = await server;
      // One that hears itself: its subscription is there again before anything that it kept back is sent.
      const wire = await open('anyone');
      const heard: string[] = [];
      await wire.serve(deleteSandbox, async ({ name }) => {
        heard.push(name);
        throw new Failure('not_found', 'heard');
      });
      await stop();
      await vi.waitFor(() => expect(wire.isConnected()).toBe(false), { timeout: 10_000 });
      await expect(wire.ask(deleteSandbox, ask('late'), { deadlineMs: 100 })).rejects.toMatchObject({
        code: 'deadline_exceeded',
      });
      const patient = wire.ask(deleteSandbox, ask('patient'));
      patient.catch(() => {}); // looked at below
      await start();
      await expect(patient).rejects.toMatchObject({ code: 'not_found' });
      expect(heard).toEqual(['patient']);
      await wire.close();
    });

    it('whoever hears facts is told, when it is back, that some may have been missed', async () => {
      const { open, stop, start } = await server;
      const wire = await open('gateway');
      const onGap = vi.fn<() => void>();
      const closed = vi.fn<() => void>();
      await wire.hear(keyRevoked, () => {}, { onGap });
      await (await wire.hear(keyRevoked, () => {}, { onGap: closed })).close();
      expect(onGap).not.toHaveBeenCalled();
      await stop();
      await vi.waitFor(() => expect(wire.isConnected()).toBe(false), { timeout: 10_000 });
      await start();
      await vi.waitFor(() => expect(onGap).toHaveBeenCalled(), { timeout: 10_000 });
      expect(closed).not.toHaveBeenCalled();
      await wire.close();
    });
  });

  describe('a room', () => {
    // Branded names come from parsing, as on the wire.
    const ask = deleteSandbox.request.parse({ workspace: 'main', name: 'web', reason: 'test' });
    let wire: Awaited<ReturnType<typeof natsWire>>;
    beforeAll(async () => {
      wire = await (await server).open('node-a');
    });
    afterAll(() => wire.close());

    it('knows when the server is gone, and when it is back', async () => {
      const { stop, start } = await server;
      expect(wire.isConnected()).toBe(true);
      await stop();
      await vi.waitFor(() => expect(wire.isConnected()).toBe(false), { timeout: 5_000 });
      await start();
      await vi.waitFor(() => expect(wire.isConnected()).toBe(true), { timeout: 10_000 });
    });

    it('cannot speak outside its own subjects', async () => {
      await expect(wire.ask(deleteSandbox, ask, { deadlineMs: 2_000 })).rejects.toMatchObject({ code: 'forbidden' });
    });
  });
});

const SMALL_ASK = {
  workspace: 'main',
  reuse: false,
  template: 'base',
  image: 'base',
  shape: { memoryMib: 512, cpus: 1, diskMib: 1024, pids: 256 },
  ports: [],
  labels: {},
  idle: { kind: 'never' },
  expiry: {},
  terminatedRetentionMs: 0,
  extra: {},
  createdBy: 'test',
};

async function startServer() {
  const dir = mkdtempSync(join(tmpdir(), 'torpor-nats-'));
  const port = await freePort();
  const users = [
    { user: 'gateway', ...roomPermissions('gateway', 'gateway') },
    { user: 'scheduler', ...roomPermissions('scheduler', 'scheduler') },
    { user: 'node-a', ...roomPermissions('node', 'node-a', 'a') },
    { user: 'anyone', publish: { allow: ['>'] }, subscribe: { allow: ['>'] } },
  ].map(({ user, publish, subscribe }) => ({
    user,
    password: 'p',
    permissions: { publish, subscribe, allow_responses: true },
  }));
  const config = { host: '127.0.0.1', port, jetstream: { store_dir: dir }, authorization: { users } };
  writeFileSync(join(dir, 'nats.json'), JSON.stringify(config));
  const launch = () => spawn(binary, ['-c', join(dir, 'nats.json')], { stdio: 'ignore' });
  let child = launch();
  const stop = async () => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  };
  return {
    open: (user: string, pulse?: PulseTimes, clock?: Clock) =>
      natsWire({
        url: `127.0.0.1:${port}`,
        user,
        password: 'p',
        room: user,
        onTrouble: () => {},
        ...(pulse ? { pulse } : {}),
        ...(clock ? { clock } : {}),
      }),
    stop,
    start: async () => {
      child = launch();
    },
    end: async () => {
      await stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo; // a listening TCP server has one
      probe.close(() => resolve(port));
    });
    probe.once('error', reject);
  });
}
