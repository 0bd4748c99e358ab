/** What the kernel says of a sandbox, read past all of our processes. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

const ROOT = '/sys/fs/cgroup';
const isV2 = existsSync(join(ROOT, 'cgroup.controllers'));

export function cgroupFile(scope: string, instanceId: string, controller: string, file: string): string {
  return isV2
    ? join(ROOT, `torpor-${scope}`, instanceId, file)
    : join(ROOT, controller, `torpor-${scope}`, instanceId, file);
}

/** Whether every task of the sandbox is frozen. */
export async function isFrozen(scope: string, instanceId: string): Promise<boolean> {
  if (isV2) return /^frozen 1$/m.test(await readFile(cgroupFile(scope, instanceId, '', 'cgroup.events'), 'utf8'));
  return (await readFile(cgroupFile(scope, instanceId, 'freezer', 'freezer.state'), 'utf8')).trim() === 'FROZEN';
}

/** CPU used so far by everything in the sandbox's cgroup, in nanoseconds. */
export async function cpuUsageNs(scope: string, instanceId: string): Promise<number> {
  if (!isV2) return Number(await readFile(cgroupFile(scope, instanceId, 'cpuacct', 'cpuacct.usage'), 'utf8'));
  const stat = await readFile(cgroupFile(scope, instanceId, '', 'cpu.stat'), 'utf8');
  return Number(/^usage_usec (\d+)$/m.exec(stat)?.[1]) * 1000;
}

export async function memoryBytes(scope: string, instanceId: string): Promise<number> {
  const file = isV2
    ? cgroupFile(scope, instanceId, '', 'memory.current')
    : cgroupFile(scope, instanceId, 'memory', 'memory.usage_in_bytes');
  return Number(await readFile(file, 'utf8'));
}

/** What of the sandbox lies in swap; 0 where the kernel does not account for it. */
export async function swapBytes(scope: string, instanceId: string): Promise<number> {
  const swap = cgroupFile(scope, instanceId, '', 'memory.swap.current');
  if (isV2) return existsSync(swap) ? Number(await readFile(swap, 'utf8')) : 0;
  const stat = await readFile(cgroupFile(scope, instanceId, 'memory', 'memory.stat'), 'utf8');
  return Number(/^total_swap (\d+)$/m.exec(stat)?.[1] ?? 0);
}
