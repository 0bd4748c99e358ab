/**
 * Ports and the address range of an installation: proposed from its id, moved on where the host uses them already, and then written down,
 * because URLs and running sandboxes depend on them.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { Installation } from './installation.ts';
import { writeWhole } from './write-whole.ts';

const Places = z.object({
  ports: z.object({
    gateway: z.number(),
    nats: z.number(),
    postgres: z.number(),
    data: z.number(),
    dns: z.number(),
    observeGateway: z.number(),
    observeScheduler: z.number(),
    observeNode: z.number(),
  }),
  /** The /16 that the node's instances live in. */
  subnet: z.string(),
  /** Of nodes after the first. */
  moreNodes: z
    .array(
      z.object({ ports: z.object({ data: z.number(), dns: z.number(), observe: z.number() }), subnet: z.string() }),
    )
    .default([]),
});
export type Places = z.infer<typeof Places>;

const PORTS_EACH = 10;
const FIRST_PORT = 21_000;
const BLOCKS = 900;

/** `nodes`: how many there are to be. Those that were there once stay: sandboxes live on them. */
export async function placesOf(installation: Installation, nodes = 1): Promise<Places> {
  const known = await knownPlaces(installation);
  const seed = Number.parseInt(installation.id, 16);
  let places = known ?? (await findPlaces(seed));
  while (places.moreNodes.length < nodes - 1) places = await withAnotherNode(places, seed);
  if (places === known) return places;
  await mkdir(installation.stateDir, { recursive: true });
  await writeWhole(fileOf(installation), `${JSON.stringify(places, null, 2)}\n`, 0o644);
  return places;
}

/** Absent before the first start. */
export async function knownPlaces(installation: Installation): Promise<Places | undefined> {
  const text = await readFile(fileOf(installation), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : Places.parse(JSON.parse(text));
}

function fileOf({ stateDir }: Installation): string {
  return join(stateDir, 'places.json');
}

async function withAnotherNode(places: Places, seed: number): Promise<Places> {
  const turn = seed + 449 * (places.moreNodes.length + 1); // far from the first's, and from its neighbours'
  const { ports, subnet } = await findPlaces(turn, [places.subnet, ...places.moreNodes.map((node) => node.subnet)]);
  const { data, dns, observeNode: observe } = ports;
  return { ...places, moreNodes: [...places.moreNodes, { ports: { data, dns, observe }, subnet }] };
}

async function findPlaces(seed: number, taken: readonly string[] = []): Promise<Places> {
  const used = usedNetworks(await readFile('/proc/net/route', 'utf8'), networkInterfaces());
  for (const subnet of taken) used.add(Number(subnet.split('.')[1]));
  const subnet = proposeSubnet(seed, used);
  for (let turn = 0; turn < BLOCKS; turn++) {
    const first = FIRST_PORT + ((seed + turn) % BLOCKS) * PORTS_EACH;
    if (await allFree(first)) return { ports: portsFrom(first), subnet, moreNodes: [] };
  }
  throw new Error(`no ${PORTS_EACH} free ports in a row between ${FIRST_PORT} and ${FIRST_PORT + BLOCKS * PORTS_EACH}`);
}

function portsFrom(first: number): Places['ports'] {
  return {
    gateway: first,
    nats: first + 1,
    postgres: first + 2,
    data: first + 3,
    dns: first + 4,
    observeGateway: first + 5,
    observeScheduler: first + 6,
    observeNode: first + 7,
  };
}

/** A /16 of 10.0.0.0/8 that touches no network in use; `used` holds second octets of 10/8, or −1 for all of it. */
export function proposeSubnet(seed: number, used: ReadonlySet<number>): string {
  for (let turn = 0; turn < 256; turn++) {
    const octet = (seed + turn) % 256;
    if (!used.has(octet)) return `10.${octet}.0.0/16`;
  }
  throw new Error('every /16 of 10.0.0.0/8 is in use on this host; set one free, or run fewer installations');
}

/** The second octets of 10.0.0.0/8 that routes or interfaces of the host use. `/proc/net/route` is little-endian hex. */
export function usedNetworks(routes: string, interfaces: ReturnType<typeof networkInterfaces>): Set<number> {
  const used = new Set<number>();
  for (const line of routes.split('\n').slice(1)) {
    const destination = line.split('\t')[1];
    if (destination?.length !== 8) continue;
    const octets = [6, 4, 2, 0].map((at) => Number.parseInt(destination.slice(at, at + 2), 16));
    if (octets[0] === 10 && octets[1] !== undefined) used.add(octets[1]);
  }
  for (const { address } of Object.values(interfaces).flatMap((all) => all ?? [])) {
    const octets = address.split('.').map(Number);
    if (octets[0] === 10 && octets[1] !== undefined) used.add(octets[1]);
  }
  return used;
}

async function allFree(first: number): Promise<boolean> {
  const free = await Promise.all(Array.from({ length: PORTS_EACH }, (_, offset) => isFree(first + offset)));
  return free.every(Boolean);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((answer) => {
    const probe = createServer();
    probe.once('error', () => answer(false));
    probe.listen(port, '0.0.0.0', () => probe.close(() => answer(true)));
  });
}
