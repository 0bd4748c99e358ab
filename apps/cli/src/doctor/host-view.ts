import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, statfs, writeFile, copyFile, constants } from 'node:fs/promises';
import { arch, cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { SwapArea } from '@torpor/contracts';
import { exists } from '../setup/cache.ts';
import { findGo, type FoundGo } from '../setup/steps/go.ts';

/** What was tried and how it went: a program's end and the last line it printed. */
export interface Trial {
  readonly kind: 'went' | 'failed' | 'absent' | 'late';
  readonly said: string;
}

/** Everything that the examination looks at, as it was found; judged elsewhere. Sizes in MiB. */
export interface HostView {
  readonly arch: string;
  readonly kernel: string;
  readonly cpuCount: number;
  readonly cpuFlags: ReadonlySet<string>;
  readonly root: boolean;
  readonly nodeVersion: string;
  readonly go: readonly FoundGo[];
  readonly filesystems: ReadonlySet<string>;
  readonly miscDevices: ReadonlySet<string>;
  /** `/proc/self/mounts` */
  readonly mounts: string;
  readonly cgroup2Controllers: readonly string[];
  readonly memoryTotalMib: number;
  readonly memoryAvailableMib: number;
  readonly swapTotalMib: number;
  /** What it swaps to, as hostd sees it; absent before that is built. */
  readonly swapAreas: readonly SwapArea[] | undefined;
  readonly zramMib: number | null;
  readonly zswap: boolean;
  readonly cache: { readonly path: string; readonly freeMib: number };
  readonly ipForward: boolean;
  readonly kvmDevice: boolean;
  readonly loopControl: boolean;
  readonly userNamespacesMax: number;
  readonly trials: {
    /** Prints the kernel release that a program sees inside gVisor. */
    readonly systrap: Trial;
    readonly nft: Trial;
    readonly btrfsTools: Trial;
    readonly userNamespace: Trial;
    readonly reflink: Trial;
    readonly runc: Trial;
  };
}

export interface Where {
  readonly cacheDir: string;
  /** runsc, if it is built. */
  readonly runsc: string;
  /** The same of hostd. */
  readonly hostd: string;
}

/** Looks at this host. Changes nothing, boots nothing; every program it tries has a deadline. */
export async function viewHost({ cacheDir, runsc, hostd }: Where): Promise<HostView> {
  const [cpuinfo, filesystems, misc, mounts, meminfo] = await Promise.all(
    ['/proc/cpuinfo', '/proc/filesystems', '/proc/misc', '/proc/self/mounts', '/proc/meminfo'].map(textOf),
  );
  const cachePath = (await exists(cacheDir)) ? cacheDir : '/';
  const disk = await statfs(cachePath);
  return {
    arch: arch(),
    kernel: release(),
    cpuCount: cpus().length,
    cpuFlags: new Set(/^(?:flags|Features)\s*:\s*(.*)$/m.exec(cpuinfo ?? '')?.[1]?.split(' ')),
    root: process.getuid?.() === 0,
    nodeVersion: process.versions.node,
    go: await findGo(cacheDir),
    filesystems: new Set((filesystems ?? '').split(/\s+/)),
    miscDevices: new Set((misc ?? '').split(/\s+/)),
    mounts: mounts ?? '',
    cgroup2Controllers: await cgroup2ControllersIn(mounts ?? ''),
    memoryTotalMib: kibField(meminfo ?? '', 'MemTotal'),
    memoryAvailableMib: kibField(meminfo ?? '', 'MemAvailable'),
    swapTotalMib: kibField(meminfo ?? '', 'SwapTotal'),
    swapAreas: await swapAreas(hostd),
    zramMib: (await exists('/sys/block/zram0/disksize'))
      ? Math.floor(Number(await textOf('/sys/block/zram0/disksize')) / 2 ** 20)
      : null,
    zswap: (await textOf('/sys/module/zswap/parameters/enabled')).trim() === 'Y',
    cache: { path: cachePath, freeMib: Math.floor((disk.bavail * disk.bsize) / 2 ** 20) },
    ipForward: (await textOf('/proc/sys/net/ipv4/ip_forward')).trim() === '1',
    kvmDevice: await exists('/dev/kvm'),
    loopControl: await exists('/dev/loop-control'),
    userNamespacesMax: Number(await textOf('/proc/sys/user/max_user_namespaces')),
    trials: {
      systrap: await trySystrap(runsc),
      nft: await attempt(['nft', 'list', 'tables'], 5_000),
      btrfsTools: await attempt(['mkfs.btrfs', '--version'], 5_000),
      userNamespace: await attempt(['unshare', '--user', '--map-root-user', 'true'], 5_000),
      reflink: await tryReflink(cachePath),
      runc: await attempt(['runc', '--version'], 5_000),
    },
  };
}

async function swapAreas(hostd: string): Promise<readonly SwapArea[] | undefined> {
  const trial = await attempt([hostd, 'swaps'], 5_000);
  return trial.kind === 'went' ? SwapArea.array().parse(JSON.parse(trial.said)) : undefined;
}

/** A program that asks for the kernel's release, in a gVisor sandbox without network: another answer than the host's proves it. */
async function trySystrap(runsc: string): Promise<Trial> {
  if (!(await exists(runsc))) return { kind: 'absent', said: '' };
  const root = await mkdtemp(join(tmpdir(), 'torpor-doctor-'));
  try {
    return await attempt(
      [runsc, '--platform=systrap', '--network=none', `--root=${root}`, 'do', '/bin/uname', '-r'],
      15_000,
    );
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

async function tryReflink(directory: string): Promise<Trial> {
  const place = await mkdtemp(join(directory, '.doctor-')).catch((error: Error) => error);
  if (place instanceof Error) return { kind: 'failed', said: place.message };
  try {
    await writeFile(join(place, 'a'), 'x'.repeat(4096));
    await copyFile(join(place, 'a'), join(place, 'b'), constants.COPYFILE_FICLONE_FORCE);
    return { kind: 'went', said: '' };
  } catch (error) {
    return { kind: 'failed', said: error instanceof Error ? error.message : String(error) };
  } finally {
    await rm(place, { recursive: true, force: true });
  }
}

/** Never throws: that a program is missing, fails or hangs is what we came to learn. */
function attempt([program, ...args]: readonly [string, ...string[]], deadlineMs: number): Promise<Trial> {
  return new Promise((resolve) => {
    const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };
    execFile(program, args, { timeout: deadlineMs, killSignal: 'SIGKILL', env }, (error, stdout, stderr) => {
      const said = (error === null ? stdout : stderr || stdout).trim().split('\n').at(-1) ?? '';
      if (error === null) resolve({ kind: 'went', said });
      else if (error.code === 'ENOENT') resolve({ kind: 'absent', said: '' });
      else if (error.killed === true) resolve({ kind: 'late', said: `no answer within ${deadlineMs / 1000} s` });
      else resolve({ kind: 'failed', said });
    });
  });
}

async function cgroup2ControllersIn(mounts: string): Promise<string[]> {
  const at = /^\S+ (\S+) cgroup2 /m.exec(mounts)?.[1];
  return at === undefined ? [] : (await textOf(join(at, 'cgroup.controllers'))).split(/\s+/).filter(Boolean);
}

/** A file of /proc or /sys; what the kernel does not offer reads as empty. */
async function textOf(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}

function kibField(meminfo: string, name: string): number {
  return Math.floor(Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(meminfo)?.[1] ?? 0) / 1024);
}
