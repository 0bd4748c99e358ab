/** What listens on the host and under which addresses, as the kernel says; and the operator's openings in the rules of one installation. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';
import type { Stack } from '../bench/lib/stack.ts';

const exec = promisify(execFile);
const LISTEN = '0A';

export interface Listener {
  /** `0.0.0.0` and `::` mean every address. */
  readonly address: string;
  readonly port: number;
}

export async function hostListeners(): Promise<Listener[]> {
  const found = new Map<string, Listener>();
  for (const file of ['/proc/net/tcp', '/proc/net/tcp6']) {
    const text = await readFile(file, 'utf8').catch(() => ''); // no IPv6 in this kernel
    for (const line of text.trim().split('\n').slice(1)) {
      const [, local = '', , state] = line.trim().split(/\s+/);
      const [hex = '', port = ''] = local.split(':');
      if (state !== LISTEN) continue;
      const listener = { address: addressOf(hex), port: Number.parseInt(port, 16) };
      found.set(`${listener.address} ${listener.port}`, listener);
    }
  }
  return [...found.values()];
}

/** Words of 32 bits in the host's (little-endian) order. */
function addressOf(hex: string): string {
  const bytes = (hex.match(/.{8}/g) ?? []).flatMap((word) => (word.match(/../g) ?? []).toReversed());
  if (bytes.length === 4) return bytes.map((byte) => Number.parseInt(byte, 16)).join('.');
  return new URL(`http://[${bytes.join('').replace(/(.{4})(?=.)/g, '$1:')}]`).hostname.slice(1, -1);
}

/** Every address of the host but the loopback's, with its zone where it needs one. */
export function hostAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((all) => all ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith('fe80:'))
    .map(({ address }) => address);
}

export interface Opening {
  readonly ip: string;
  readonly proto: 'tcp' | 'udp';
  readonly port: number;
}

/** The openings that the operator's settings have made. */
export async function openings(stack: Stack): Promise<Opening[]> {
  const { stdout } = await exec('nft', ['-j', 'list', 'set', 'inet', `torpor_${stack.scope}`, 'allowed']);
  const { nftables } = JSON.parse(stdout) as {
    nftables: { set?: { elem?: { concat: [string, 'tcp' | 'udp', number] }[] } }[];
  };
  return nftables.flatMap(({ set }) => set?.elem ?? []).map(({ concat: [ip, proto, port] }) => ({ ip, proto, port }));
}

/** The control of a denied probe: the same place with the rules switched off for it alone, as an operator's `egress.allow` does. */
export async function whileOpen<T>(stack: Stack, places: readonly Opening[], work: () => Promise<T>): Promise<T> {
  const element = `{ ${places.map(({ ip, proto, port }) => `${ip} . ${proto} . ${port}`).join(', ')} }`;
  const set = ['element', 'inet', `torpor_${stack.scope}`, 'allowed', element];
  await exec('nft', ['add', ...set]);
  try {
    return await work();
  } finally {
    await exec('nft', ['delete', ...set]);
  }
}

/** The instances' addresses, and the devices through which they are reached. */
export async function instanceLinks(stack: Stack): Promise<{ device: string; ip: string }[]> {
  const { stdout } = await exec('nft', ['-j', 'list', 'set', 'inet', `torpor_${stack.scope}`, 'sources']);
  const { nftables } = JSON.parse(stdout) as { nftables: { set?: { elem?: { concat: [string, string] }[] } }[] };
  return nftables.flatMap(({ set }) => set?.elem ?? []).map(({ concat: [device, ip] }) => ({ device, ip }));
}
