import { describe, expect, it } from 'vitest';
import { judge, type Status } from './findings.ts';
import type { HostView, Trial } from './host-view.ts';
import { renderFindings } from './render.ts';

const went: Trial = { kind: 'went', said: '' };
const absent: Trial = { kind: 'absent', said: '' };

/** A host on which everything is right. */
const good: HostView = {
  arch: 'x64',
  kernel: '6.18.44',
  cpuCount: 2,
  cpuFlags: new Set(['fpu', 'vmx']),
  root: true,
  nodeVersion: '24.21.0',
  go: [{ path: '/usr/local/go/bin/go', version: '1.26.8' }],
  filesystems: new Set(['overlay', 'btrfs']),
  miscDevices: new Set(['device-mapper']),
  mounts: ['cpu', 'memory', 'pids', 'freezer']
    .map((name) => `cgroup /sys/fs/cgroup/${name} cgroup rw,relatime,favordynmods,${name} 0 0`)
    .join('\n'),
  cgroup2Controllers: [],
  memoryTotalMib: 24_000,
  memoryAvailableMib: 20_000,
  swapTotalMib: 8_000,
  swapAreas: [{ kind: 'host', device: '/dev/dm-1', sizeMib: 8_000, usedMib: 0, atRest: 'encrypted' }],
  zramMib: 0,
  zswap: false,
  cache: { path: '/var/cache/torpor', freeMib: 80_000 },
  ipForward: true,
  kvmDevice: true,
  loopControl: true,
  userNamespacesMax: 65_536,
  trials: {
    systrap: { kind: 'went', said: '4.4.0' },
    nft: went,
    btrfsTools: went,
    userNamespace: went,
    reflink: went,
    runc: went,
  },
};

function statusOf(name: string, change: Partial<HostView>): Status | undefined {
  return judge({ ...good, ...change }).find((finding) => finding.name === name)?.status;
}

describe('judge', () => {
  it('finds nothing wrong with a good host', () => {
    expect(judge(good).filter((finding) => finding.status !== 'ok')).toEqual([]);
  });

  const only = (trials: Partial<HostView['trials']>): Partial<HostView> => ({ trials: { ...good.trials, ...trials } });
  it.each<{ host: string; name: string; change: Partial<HostView>; status: Status }>([
    {
      host: 'a /dev/kvm without vmx or svm',
      name: 'isolation: microVM',
      change: { cpuFlags: new Set(['fpu']) },
      status: 'degraded',
    },
    {
      host: 'cgroups that are slow to move processes',
      name: 'cgroup moves',
      change: { mounts: good.mounts.replaceAll('favordynmods,', '') },
      status: 'degraded',
    },
    { host: 'vmx without /dev/kvm', name: 'isolation: microVM', change: { kvmDevice: false }, status: 'degraded' },
    {
      host: "a probe that saw the host's own kernel",
      name: 'isolation: gVisor',
      change: only({ systrap: { kind: 'went', said: '6.18.44' } }),
      status: 'missing',
    },
    {
      host: 'a probe that hung',
      name: 'isolation: gVisor',
      change: only({ systrap: { kind: 'late', said: 'no answer within 15 s' } }),
      status: 'missing',
    },
    { host: 'no runsc yet', name: 'isolation: gVisor', change: only({ systrap: absent }), status: 'missing' },
    {
      host: 'cgroup version 2 alone',
      name: 'cgroups',
      change: { mounts: '', cgroup2Controllers: ['cpu', 'memory', 'pids', 'io'] },
      status: 'ok',
    },
    {
      host: 'version 2 that holds only hugetlb, and no version 1',
      name: 'cgroups',
      change: { mounts: '', cgroup2Controllers: ['hugetlb'] },
      status: 'missing',
    },
    {
      host: 'version 1 without a freezer',
      name: 'cgroups',
      change: { mounts: good.mounts.replace(/.*freezer.*/, '') },
      status: 'missing',
    },
    {
      host: 'version 1 with two controllers in one mount',
      name: 'cgroups',
      change: { mounts: good.mounts.replace('relatime,cpu ', 'relatime,cpuacct,cpu ') },
      status: 'ok',
    },
    { host: 'no swap', name: 'swap', change: { swapTotalMib: 0, swapAreas: [] }, status: 'ok' },
    { host: 'swap that only hostd could judge', name: 'swap', change: { swapAreas: undefined }, status: 'ok' },
    {
      host: 'swap on a plain disk',
      name: 'swap',
      change: { swapAreas: [{ kind: 'host', device: '/dev/sda2', sizeMib: 8_000, usedMib: 0, atRest: 'plain' }] },
      status: 'degraded',
    },
    {
      host: 'no swap, and nothing to make it of',
      name: 'swap',
      change: { swapTotalMib: 0, swapAreas: [], miscDevices: new Set(), zramMib: null },
      status: 'degraded',
    },
    { host: 'a full disk', name: 'disk space', change: { cache: { path: '/', freeMib: 900 } }, status: 'missing' },
    { host: 'no nft', name: 'firewall', change: only({ nft: absent }), status: 'missing' },
    { host: 'no btrfs', name: 'disk pool', change: { filesystems: new Set(['overlay']) }, status: 'missing' },
    {
      host: "Debian's own Go",
      name: 'Go',
      change: { go: [{ path: '/usr/bin/go', version: '1.19.8' }] },
      status: 'degraded',
    },
    {
      host: 'user namespaces turned off',
      name: 'user namespaces',
      change: { userNamespacesMax: 0 },
      status: 'missing',
    },
    { host: 'another user than root', name: 'privileges', change: { root: false }, status: 'missing' },
  ])('$host: $name is $status', ({ name, change, status }) => {
    expect(statusOf(name, change)).toBe(status);
  });

  it('never names a shortfall without saying what to do', () => {
    const bad: HostView = {
      ...good,
      cpuFlags: new Set<string>(),
      root: false,
      nodeVersion: '20.1.0',
      go: [],
      filesystems: new Set<string>(),
      miscDevices: new Set<string>(),
      mounts: '',
      memoryAvailableMib: 100,
      swapTotalMib: 0,
      swapAreas: [],
      zramMib: null,
      cache: { path: '/', freeMib: 1 },
      ipForward: false,
      loopControl: false,
      userNamespacesMax: 0,
      trials: {
        systrap: absent,
        nft: absent,
        btrfsTools: absent,
        userNamespace: absent,
        reflink: absent,
        runc: absent,
      },
    };
    const shortfalls = judge(bad);
    expect(shortfalls.filter((finding) => finding.status === 'ok')).toEqual([]);
    expect(shortfalls.filter((finding) => finding.todo === '')).toEqual([]);
  });
});

describe('renderFindings', () => {
  it('shows what was found on one line, and for a shortfall why it matters and what to do below', () => {
    const plain = { kind: 'host', device: '/dev/sda2', sizeMib: 8_000, usedMib: 0, atRest: 'plain' } as const;
    const text = renderFindings(judge({ ...good, swapAreas: [plain] }));
    expect(text).toMatch(
      /^degraded {2}swap {5,}the host's own at \/dev\/sda2, .*not encrypted\n +for: .*\n +do: {2}this host swaps to \/dev\/sda2/m,
    );
    expect(text).toContain('17 ok, 1 degraded, 0 missing');
  });
});
