import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { environmentOf, exportLines } from './environment-lines.ts';
import { asJsonLine, LogFile } from './log-file.ts';
import { proposeSubnet, usedNetworks } from './places.ts';
import { natsGreets } from './answers.ts';
import { endProcess, isRunning, nameProcess } from './processes.ts';
import { countsAsQuick, pauseBeforeRestart, startOrder, type Service } from './service.ts';
import { settingsFrom } from './settings.ts';
import { endOrphans, orphansOf, Supervisor } from './supervisor.ts';
import type { Patience } from './watch.ts';

describe('places', () => {
  it('moves on from a range that the host routes or holds', () => {
    const routes = 'Iface\tDestination\tGateway\neth0\t0002A8C0\t0\neth1\t0000070A\t0\n';
    const used = usedNetworks(routes, { eth2: [{ address: '10.9.1.2' } as never] });
    expect(used).toEqual(new Set([7, 9]));
    expect(proposeSubnet(7, used)).toBe('10.8.0.0/16');
    expect(proposeSubnet(9, used)).toBe('10.10.0.0/16');
  });

  it('says so when no range is left', () => {
    expect(() => proposeSubnet(0, new Set(Array.from({ length: 256 }, (_, n) => n)))).toThrow(/every \/16/);
  });
});

describe('the order of services', () => {
  it('starts each after what it needs', () => {
    const order = startOrder([
      { name: 'gateway', needs: ['nats', 'postgres'] },
      { name: 'nats', needs: [] },
      { name: 'postgres', needs: [] },
    ]);
    expect(order).toEqual([['nats', 'postgres'], ['gateway']]);
  });

  it('refuses needs that go round', () => {
    expect(() =>
      startOrder([
        { name: 'a', needs: ['b'] },
        { name: 'b', needs: ['a'] },
      ]),
    ).toThrow(/a needs b; b needs a/);
  });

  it('waits longer with each quick failure, and not beyond five seconds', () => {
    expect([0, 1, 2, 20].map(pauseBeforeRestart)).toEqual([100, 200, 400, 5_000]);
    expect([countsAsQuick(1_999), countsAsQuick(2_000)]).toEqual([true, false]);
  });
});

describe('settings', () => {
  it('takes options before variables and refuses what is no number', () => {
    expect(
      settingsFrom({ listen: '0.0.0.0' }, { TORPOR_LISTEN: '::1', TORPOR_PUBLIC_URL: 'http://box:1//' }),
    ).toMatchObject({ listen: '0.0.0.0', publicUrl: 'http://box:1', pool: 8 });
    expect(() => settingsFrom({ pool: 'many' }, {})).toThrow('--pool expects a whole number, got "many"');
    expect(() => settingsFrom({ listen: '300.1.1.1' }, {})).toThrow('--listen expects an address');
    expect(() => settingsFrom({ publicUrl: 'box:80' }, {})).toThrow(
      '--public-url expects one that begins with http://',
    );
  });
});

describe('lines for a shell', () => {
  it('survive quotes, and keep the SDK off its own edge', () => {
    const variables = environmentOf('blaxel', { url: 'http://h:1', workspace: 'main', apiKey: "k'ey" });
    expect(variables.BL_DISABLE_H2).toBe('1');
    expect(exportLines(variables)).toContain("export BL_API_KEY='k'\\''ey'");
  });

  it('name what the outside calls the stack, where it was told', () => {
    const known = { url: 'http://127.0.0.1:1', publicUrl: 'https://box.example', workspace: 'main', apiKey: 'k' };
    expect(environmentOf('blaxel', known)).toMatchObject({
      BL_API_URL: 'https://box.example/v0',
      BL_RUN_URL: 'https://box.example',
    });
  });
});

describe('the log', () => {
  it('keeps JSON lines and wraps others', () => {
    expect(JSON.parse(asJsonLine('nats', '[1] listening'))).toMatchObject({ room: 'nats', event: '[1] listening' });
    expect(JSON.parse(asJsonLine('hostd', '{"event":"x"}'))).toEqual({ room: 'hostd', event: 'x' });
    expect(asJsonLine('gateway', '{"room":"gateway"}')).toBe('{"room":"gateway"}');
  });
});

describe('the supervisor', () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'torpor-up-'));
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  const service = (script: string, more: Partial<Service> = {}): Service => ({
    name: 'one',
    command: process.execPath,
    args: ['-e', script],
    env: { PATH: '/usr/bin:/bin' },
    needs: [],
    isHealthy: async () => true,
    stop: { graceMs: 2_000 },
    startMs: 5_000,
    ...more,
  });
  const open = (services: Service[], patience?: Patience) => {
    const log = new LogFile(join(dir, 'log'));
    return { log, supervisor: new Supervisor(services, { log, runDir: dir, ...(patience ? { patience } : {}) }) };
  };
  const start = (supervisor: Supervisor) => supervisor.start({ told: () => {}, afterFoundations: async () => {} });

  it('goes on when the list of its children cannot be written', async () => {
    await mkdir(join(dir, 'children.json')); // nothing can be renamed to a directory
    const { supervisor, log } = open([service('setInterval(() => {}, 1000)')]);
    await start(supervisor);
    expect(await supervisor.status()).toMatchObject([{ healthy: true }]);
    await supervisor.stop();
    await log.close();
    expect(await readFile(log.path, 'utf8')).toContain('the list of children could not be written');
  });

  it('starts again what ends, and counts it', async () => {
    const { supervisor, log } = open([service('setInterval(() => {}, 1000)')]);
    await start(supervisor);
    const [first] = await supervisor.status();
    process.kill(first?.pid ?? 0, 'SIGKILL');
    await vi.waitFor(async () => {
      const [now] = await supervisor.status();
      expect(now).toMatchObject({ restarts: 1, healthy: true });
      expect(now?.pid).not.toBe(first?.pid);
    });
    await supervisor.stop();
    expect((await supervisor.status())[0]?.pid).toBeUndefined();
    await log.close();
    expect(await readFile(join(dir, 'log'), 'utf8')).toContain('signal SIGKILL');
  });

  it('starts again what lives but has stopped to answer, and says why', async () => {
    const portFile = join(dir, 'port');
    const greeter = `const server = require('node:net').createServer((socket) => socket.end('INFO {}'));
      server.listen(0, '127.0.0.1', () => require('node:fs').writeFileSync(${JSON.stringify(portFile)}, String(server.address().port)));`;
    const isHealthy = async () => natsGreets(Number(await readFile(portFile, 'utf8')));
    const patience = { everyMs: 20, answerMs: 500, spellMs: 100, looks: 2 };
    const { supervisor, log } = open([service(greeter, { isHealthy, stop: { graceMs: 100 } })], patience);
    await start(supervisor);
    const [first] = await supervisor.status();
    process.kill(first?.pid ?? 0, 'SIGSTOP'); // it lives, and its port still takes connections
    await vi.waitFor(
      async () => {
        const [now] = await supervisor.status();
        expect(now).toMatchObject({ healthy: true });
        expect(now?.restarts).toBeGreaterThan(0);
        expect(now?.pid).not.toBe(first?.pid);
      },
      { timeout: 20_000 },
    );
    await supervisor.stop();
    await log.close();
    const said = await readFile(join(dir, 'log'), 'utf8');
    expect(said).toMatch(/"reason":"it does not answer: .* ms, for [\d.]+ s and \d+ looks","event":"service given up/);
  });

  it('says which service did not come up, how it ended, and where the log is', async () => {
    const quitter = { command: '/bin/sh', args: ['-c', 'exit 3'], isHealthy: async () => false, startMs: 2_000 };
    const { supervisor } = open([service('', quitter)]);
    await expect(start(supervisor)).rejects.toThrow(
      /one did not become healthy; it last ended by exit code 3\. Its log: /,
    );
    await supervisor.stop();
  });

  it('ends what a killed supervisor left, and nothing that only wears its pid', async () => {
    const idle = () => spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
    const [orphan, stranger] = [idle(), idle()];
    const [left, other] = [await nameProcess(orphan.pid ?? 0), await nameProcess(stranger.pid ?? 0)];
    const pidFile = join(dir, 'children.json');
    const stop = { graceMs: 2_000 };
    await writeFile(
      pidFile,
      JSON.stringify([
        { ...left, service: 'a', stop },
        { pid: other?.pid, startTicks: 1, service: 'b', stop },
      ]),
    );
    expect(await orphansOf(pidFile)).toMatchObject([{ service: 'a', pid: orphan.pid }]);
    expect(await endOrphans(pidFile)).toBe(1);
    expect(await orphansOf(pidFile)).toEqual([]);
    expect([left && (await isRunning(left)), other && (await isRunning(other))]).toEqual([false, true]);
    stranger.kill('SIGKILL');
  });

  it('writes down whom the next supervisor must end', async () => {
    const { supervisor } = open([service('setInterval(() => {}, 1000)')]);
    await start(supervisor);
    const [status] = await supervisor.status();
    await vi.waitFor(async () =>
      expect(await readFile(join(dir, 'children.json'), 'utf8')).toContain(`"pid":${status?.pid},"startTicks":`),
    );
    await supervisor.stop();
  });

  it('makes a process end that does not listen', async () => {
    const child = spawn(process.execPath, [
      '-e',
      'process.on("SIGTERM", () => {}); console.log("deaf"); setInterval(() => {}, 1000)',
    ]);
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const name = await nameProcess(child.pid ?? 0);
    expect(name && (await isRunning(name))).toBe(true);
    if (name) await endProcess(name, { graceMs: 100 });
    await vi.waitFor(() => expect(child.signalCode).toBe('SIGKILL'));
  });
});
