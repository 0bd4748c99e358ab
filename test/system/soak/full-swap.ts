/**
 * Fills the host's swap now and then. Most of it is filled once, with zeros, of which a zram keeps nothing but their number; so what is left is full at once.
 * Swap is the host's: it is filled only where nobody but the tests uses it, and is free again when whoever fills it ends, however that comes.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Stack } from '../../bench/lib/stack.ts';
import { askHostd, namesIn } from '../host-sets.ts';
import { testStack } from '../test-stack.ts';
import { until } from '../until.ts';

const LEFT_MIB = 192;
/** What whoever fills it keeps in RAM of it. */
const GROUP_BYTES = 32 << 20;
/** It takes a second for each. */
const AREA_GIB_MAX = 16;
const PATIENCE_MS = 60_000;
const HOLDERS = '/run/torpor/swap';
const CGROUPS = '/sys/fs/cgroup';
/** Files of a tmpfs in a mount namespace of its own; who writes to one is killed when neither the group nor the swap has room for more. */
const FILLER = `
set -u
fill() { sh -c 'echo $$ > "$0/cgroup.procs"; exec head -c "$1M" /dev/zero > "/mnt/$2"' "$1" "$2" "$3" || true; }
mount -t tmpfs -o size=100% tmpfs /mnt && mount -o remount,size="$3m" /mnt
fill "$1" "$2" ballast
while echo free && read -r mib; do fill "$1" "$mib" rest; echo full; read -r _; rm /mnt/rest; done
`;

export interface FullSwap {
  /** Undefined while most of it is still being filled. */
  fill(): Promise<{ free(): Promise<void> } | undefined>;
  end(): Promise<void>;
}

/** Undefined where it is not ours to fill. */
export async function fullSwap(stack: Stack): Promise<FullSwap | undefined> {
  const { swap } = await askHostd<{ swap: { areas: { kind: string }[] } }>(stack.scope, 'node.usage');
  const { totalMib, freeMib } = await swapMib();
  const isOurs = swap.areas.every(({ kind }) => kind === 'zram') && !(await isShared(stack));
  if (!isOurs || totalMib < LEFT_MIB || totalMib > AREA_GIB_MAX << 10) return undefined;
  const group = join(CGROUPS, existsSync(join(CGROUPS, 'memory')) ? 'memory' : '', `torpor-soak-${stack.scope}`);
  await mkdir(group, { recursive: true });
  const limit = ['memory.limit_in_bytes', 'memory.max'].find((name) => existsSync(join(group, name)));
  if (!limit) throw new Error(`${group} has no limit of memory`);
  await writeFile(join(group, limit), String(GROUP_BYTES));
  const args = [
    '--mount',
    'sh',
    '-c',
    FILLER,
    'filler',
    group,
    String(Math.max(1, freeMib - LEFT_MIB)),
    String(totalMib),
  ];
  const child = spawn('unshare', args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  const said: string[] = [];
  const lines = createInterface(child.stdout).on('line', (line) => said.push(line));
  const saying = async (word: string) => {
    while (said.at(-1) !== word) await once(lines, 'line', { signal: AbortSignal.timeout(PATIENCE_MS) });
  };
  return {
    async fill() {
      if (said.at(-1) !== 'free') return undefined;
      child.stdin.write(`${(await swapMib()).freeMib + LEFT_MIB}\n`);
      await saying('full');
      return {
        async free() {
          child.stdin.write('\n');
          await saying('free');
        },
      };
    },
    async end() {
      const ended = once(child, 'exit');
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      await ended;
      const isGone = () =>
        rmdir(group).then(
          () => true,
          () => false,
        );
      await until('nobody fills the swap', PATIENCE_MS, isGone);
    },
  };
}

/** By another installation than the soak's own and the one that all system tests share. */
async function isShared({ scope }: Stack): Promise<boolean> {
  const ours = [scope, (await testStack()).scope];
  const holders = (await namesIn(HOLDERS)).flatMap((name) => /^holder\.(\w+)$/.exec(name)?.[1] ?? []);
  return holders.some((holder) => !ours.includes(holder) && existsSync(`/run/torpor/${holder}`));
}

async function swapMib(): Promise<{ totalMib: number; freeMib: number }> {
  const text = await readFile('/proc/meminfo', 'utf8');
  const mib = (name: string) =>
    Math.floor(Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0) / 1024);
  return { totalMib: mib('SwapTotal'), freeMib: mib('SwapFree') };
}
