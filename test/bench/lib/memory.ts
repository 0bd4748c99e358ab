/** The host's memory as a whole, read past all of our processes. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { setTimeout as after } from 'node:timers/promises';
import { median } from './figures.ts';
import type { Stack } from './stack.ts';

const exec = promisify(execFile);
const LOOKS = 9;
const BETWEEN_MS = 250;

export interface HostMemory {
  /** What could be given to a program now, by the kernel's own reckoning; what a zram's pool holds is not in it. */
  readonly availableMib: number;
  readonly swapUsedMib: number;
}

/** The median of some looks: other programs come and go. */
export async function hostMemory(): Promise<HostMemory> {
  const looks: HostMemory[] = [];
  for (let n = 0; n < LOOKS; n++) {
    looks.push(await look());
    await after(BETWEEN_MS);
  }
  return {
    availableMib: median(looks.map(({ availableMib }) => availableMib)),
    swapUsedMib: median(looks.map(({ swapUsedMib }) => swapUsedMib)),
  };
}

async function look(): Promise<HostMemory> {
  const text = await readFile('/proc/meminfo', 'utf8');
  const mib = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1]) / 1024;
  return { availableMib: mib('MemAvailable'), swapUsedMib: mib('SwapTotal') - mib('SwapFree') };
}

/** Has the kernel forget every file that it remembers and nobody has mapped: the next read comes from the disk. */
export async function dropPageCache(): Promise<void> {
  await exec('sync');
  await writeFile('/proc/sys/vm/drop_caches', '1');
}

/** Reads an instance's images into the page cache, where they are right after a store on a host with memory to spare. */
export async function warmImages(stack: Stack, hostId: string): Promise<void> {
  for (const file of await imageFiles(stack, hostId)) await exec('dd', [`if=${file}`, 'of=/dev/null', 'bs=1M']);
}

/** What the images of these instances take on the disk, MiB. */
export async function imagesMib(stack: Stack, hostIds: readonly string[]): Promise<number> {
  const files = (await Promise.all(hostIds.map((hostId) => imageFiles(stack, hostId)))).flat();
  const { stdout } = await exec('du', ['--block-size=1', '--total', ...files], { maxBuffer: 64 << 20 });
  return Number(stdout.trim().split('\n').at(-1)?.split('\t')[0]) / 2 ** 20;
}

async function imageFiles(stack: Stack, hostId: string): Promise<string[]> {
  const images = join(stack.stateDir, 'pool/m');
  const own = (await readdir(images)).filter((name) => name.startsWith(`${hostId}-`));
  const found = await Promise.all(
    own.map(async (name) => (await readdir(join(images, name))).map((file) => join(images, name, file))),
  );
  return found.flat();
}
