/** What a reboot of the host does to one installation: all that runs, is mounted or lies in memory goes at once; what is on the disk stays. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Stack } from '../bench/lib/stack.ts';
import { mountPoints, namesIn, runs } from './host-sets.ts';
import type { OwnInstallation } from './own-installation.ts';
import { processes } from './processes.ts';
import { until } from './until.ts';

const exec = promisify(execFile);
const CGROUPS = '/sys/fs/cgroup';
const PATIENCE_MS = 60_000;

type Host = Pick<Stack, 'scope' | 'stateDir' | 'installation'>;

export async function reboot(host: Host, { status }: Pick<OwnInstallation, 'status'>): Promise<void> {
  const { pid, services } = await status();
  await endAll(host, [pid, ...services.flatMap((service) => service.pid ?? [])]);
  await unmountAll(host);
  for (const name of await namesIn('/run/netns')) {
    if (name.startsWith(`tp${host.scope}-`)) await exec('ip', ['netns', 'delete', name]); // its devices go with it
  }
  await removeGroups(host);
  await exec('nft', ['delete', 'table', 'inet', `torpor_${host.scope}`]);
  for (const directory of runDirectories(host)) await rm(directory, { recursive: true });
}

/** Both on a tmpfs. */
function runDirectories({ scope, installation }: Host): string[] {
  return [`/run/torpor/${scope}`, `/run/torpor/up-${installation}`];
}

/** By SIGKILL, the supervisor first, so that it starts nobody again. Once more as long as anybody is left. */
async function endAll(host: Host, roots: readonly number[]): Promise<void> {
  await until('nothing of it runs', PATIENCE_MS, async () => {
    const living = await everybody(host, roots);
    for (const pid of living) killed(pid);
    for (const group of await groupsOf(host)) await thawed(group); // who is frozen ends when thawed
    return living.length === 0;
  });
}

/** These, all that descend from them, whoever was started with a path that only this installation has, and all that is in a sandbox. */
async function everybody(host: Host, roots: readonly number[]): Promise<number[]> {
  const all = await processes();
  const marks = [...runDirectories(host), host.stateDir];
  const isMarked = (argv: readonly string[]) => argv.some((each) => marks.some((mark) => each.includes(mark)));
  const own = new Set([...roots, ...all.flatMap(({ pid, argv }) => (isMarked(argv) ? [pid] : []))]);
  for (let before = 0; before !== own.size;) {
    before = own.size;
    for (const { pid, parent } of all) if (own.has(parent)) own.add(pid);
  }
  for (const group of await groupsOf(host)) for (const pid of await membersOf(group)) own.add(pid);
  own.delete(process.pid);
  const living = await Promise.all([...own].map(async (pid) => ((await runs(pid)) ? [pid] : [])));
  return living.flat();
}

function killed(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error; // it has ended by itself
  }
}

/** Of every hierarchy there is, those of instances before the one that they are in. */
async function groupsOf({ scope }: Host): Promise<string[]> {
  const tops = ['', ...(await readdir(CGROUPS))].map((hierarchy) => join(CGROUPS, hierarchy, `torpor-${scope}`));
  const found = await Promise.all(tops.filter((top) => existsSync(top)).map(groupsIn));
  return found.flat();
}

async function groupsIn(group: string): Promise<string[]> {
  const entries = await readdir(group, { withFileTypes: true }).catch(unlessGone([]));
  const below = await Promise.all(
    entries.filter((entry) => entry.isDirectory()).map(({ name }) => groupsIn(join(group, name))),
  );
  return [...below.flat(), group];
}

async function membersOf(group: string): Promise<number[]> {
  const text = await readFile(join(group, 'cgroup.procs'), 'utf8').catch(unlessGone(''));
  return text.split('\n').filter(Boolean).map(Number);
}

/** For what hostd has removed since it was listed. */
function unlessGone<T>(empty: T): (error: unknown) => T {
  return (error) => {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENODEV')) return empty;
    throw error;
  };
}

async function thawed(group: string): Promise<void> {
  const state = join(group, 'freezer.state'); // version 2 ends frozen ones by itself
  if (existsSync(state)) await writeFile(state, 'THAWED').catch(unlessGone(undefined));
}

async function removeGroups(host: Host): Promise<void> {
  for (const group of await groupsOf(host)) {
    // The kernel may still be burying who was in it.
    await until(`${group} is empty`, PATIENCE_MS, () =>
      rmdir(group).then(
        () => true,
        () => false,
      ),
    );
  }
}

/** The last mounted first; the pool's loop device goes with its mount. */
async function unmountAll(host: Host): Promise<void> {
  const [runDir = ''] = runDirectories(host);
  const isOwn = (path: string) => path.startsWith(`${runDir}/`) || path === join(host.stateDir, 'pool');
  for (const path of (await mountPoints()).filter(isOwn).toReversed()) await exec('umount', [path]);
  const pool = join(host.stateDir, 'pool.img');
  let holders = '';
  const isFree = async () => {
    const { stdout } = await exec('losetup', ['-j', pool]);
    if (stdout !== '') holders = `${stdout.trim()}, mounted by ${await mountersOf(stdout.split(':')[0] ?? '')}`;
    return stdout === '';
  };
  await until('the pool has no device', PATIENCE_MS, isFree, () => holders);
}

/** Processes in whose mount namespace something of a device is mounted. */
async function mountersOf(device: string): Promise<string> {
  const all = await Promise.all(
    (await processes()).map(async ({ pid, argv }) => {
      const mounts = await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => ''); // it has ended
      return mounts.includes(` ${device} `) ? [`${pid} ${argv.join(' ')}`] : [];
    }),
  );
  return all.flat().join('; ') || 'nobody';
}
