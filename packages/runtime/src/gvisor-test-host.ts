/**
 * A real host for tests: its own scope, pool and subnet; hostd and guest built from these sources unless given. Told by environment variables:
 * `TORPOR_TEST_RUNSC` (the pinned runsc; without it such tests are skipped), `TORPOR_TEST_LOWER` (lower directories, topmost first, colons between;
 * without it a small Debian is made once in `TORPOR_TEST_CACHE`), `TORPOR_TEST_HOSTD` and `TORPOR_TEST_GUEST` (binaries).
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, openSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { gvisorDriver, type GvisorSettings } from './gvisor-driver.ts';
import type { InstanceDriver } from './port.ts';

const run = promisify(execFile);

/** Why no such host can be had here; undefined when it can. */
export function whyNoGvisor(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root';
  const runsc = process.env['TORPOR_TEST_RUNSC'];
  if (!runsc) return 'needs TORPOR_TEST_RUNSC, the path of the pinned runsc';
  return existsSync(runsc) ? undefined : `there is no runsc at ${runsc}`;
}

export interface GvisorTestHost {
  readonly settings: GvisorSettings;
  makeDriver(): InstanceDriver;
  /** SIGKILL, and a successor. */
  restartHostd(): Promise<void>;
  /** Takes everything of it off the host. Rejects when something would not go. */
  close(): Promise<void>;
}

export async function openGvisorHost(): Promise<GvisorTestHost> {
  const directory = await mkdtemp(join(tmpdir(), 'torpor-gvisor-'));
  const [hostd, guest, base] = await Promise.all([
    process.env['TORPOR_TEST_HOSTD'] ?? goBuild('hostd', directory),
    process.env['TORPOR_TEST_GUEST'] ?? goBuild('guest', directory),
    process.env['TORPOR_TEST_LOWER']?.split(':') ?? smallDebian(),
  ]);
  const scope = randomBytes(3).toString('hex');
  const paths = ['--scope', scope, '--run-dir', `/run/torpor/${scope}`, '--pool-dir', join(directory, 'pool')];
  const args = [...paths, '--pool-file', join(directory, 'pool.btrfs')];
  const settings: GvisorSettings = {
    hostdSocket: `/run/torpor/${scope}/hostd.sock`,
    scope,
    subnet: freeSubnet(),
    guestPort: 7000,
    pool: { sizeMib: 2048, reserveMib: 128 },
    egress: { allow: [], bandwidthMbit: 1000, connections: 1024 },
    swap: { kinds: ['zram'], sizeMib: 256 },
    dnsPort: 5359,
    hostPorts: [],
    templates: [{ name: 'base', aliases: [], lower: [await guestLayer(directory, guest), ...base] }],
  };
  const log = join(directory, 'hostd.log');
  const lower = settings.templates.flatMap((template) => template.lower);
  const serving = [...args, ...lower.flatMap((layer) => ['--layers', layer])];
  let running = await startHostd(hostd, serving, settings.hostdSocket, log);
  const drivers: InstanceDriver[] = [];
  return {
    settings,
    makeDriver() {
      const driver = gvisorDriver(settings);
      drivers.push(driver);
      return driver;
    },
    async restartHostd() {
      await end(running, 'SIGKILL');
      running = await startHostd(hostd, serving, settings.hostdSocket, log);
    },
    async close() {
      for (const driver of drivers) driver.close();
      await end(running, 'SIGTERM');
      await run(hostd, [...args, '--purge'], { timeout: 60_000 });
      await rm(directory, { recursive: true });
    },
  };
}

async function startHostd(hostd: string, args: readonly string[], socket: string, log: string): Promise<ChildProcess> {
  const file = openSync(log, 'a');
  const child = spawn(hostd, [...args, '--runsc', process.env['TORPOR_TEST_RUNSC'] ?? ''], {
    stdio: ['ignore', file, file],
  });
  for (let waitedMs = 0; !existsSync(socket); waitedMs += 10) {
    if (child.exitCode !== null || waitedMs > 10_000)
      throw new Error(`hostd does not serve: ${await readFile(log, 'utf8')}`);
    await sleep(10);
  }
  return child;
}

async function end(child: ChildProcess, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}

async function goBuild(name: 'hostd' | 'guest', directory: string): Promise<string> {
  const out = join(directory, name);
  const cwd = join(import.meta.dirname, '../..', name);
  await run('nice', ['go', 'build', '-o', out, `./cmd/${name}`], {
    cwd,
    env: { ...process.env, CGO_ENABLED: '0' },
    timeout: 600_000,
  });
  return out;
}

/** What lies above every template: the guest and the places it uses. */
async function guestLayer(directory: string, guest: string): Promise<string> {
  const layer = join(directory, 'layer');
  for (const place of ['torpor/vol', 'run/torpor', 'etc']) await mkdir(join(layer, place), { recursive: true });
  await copyFile(guest, join(layer, 'torpor/guest'));
  await chmod(join(layer, 'torpor/guest'), 0o755);
  await writeFile(join(layer, 'etc/resolv.conf'), '');
  await chmod(layer, 0o755);
  return layer;
}

/** Debian's essential packages by the sources that this host uses, made once. */
async function smallDebian(): Promise<string[]> {
  const cache = process.env['TORPOR_TEST_CACHE'] ?? join(tmpdir(), 'torpor-test-cache');
  const root = join(cache, 'small-debian');
  if (existsSync(root)) return [root];
  await mkdir(cache, { recursive: true });
  const aside = `${root}.${process.pid}`;
  const release = await readFile('/etc/os-release', 'utf8');
  const suite = /^VERSION_CODENAME=(\w+)/m.exec(release)?.[1] ?? 'stable';
  const listed = (await readdir('/etc/apt/sources.list.d')).filter(
    (name) => name.startsWith('debian') && name.endsWith('.sources'),
  );
  const sources = ['/etc/apt/sources.list', ...listed.map((name) => `/etc/apt/sources.list.d/${name}`)].filter((path) =>
    existsSync(path),
  );
  await run('nice', ['mmdebstrap', '--mode=root', '--variant=essential', suite, aside, ...sources], {
    timeout: 280_000,
  });
  await rename(aside, root);
  return [root];
}

function freeSubnet(): string {
  const taken = Object.values(networkInterfaces()).flatMap((addresses) =>
    (addresses ?? []).map(({ address }) => address),
  );
  for (;;) {
    const prefix = `10.${100 + (randomBytes(1).readUInt8() % 100)}`;
    if (!taken.some((address) => address.startsWith(`${prefix}.`))) return `${prefix}.0.0/16`;
  }
}
