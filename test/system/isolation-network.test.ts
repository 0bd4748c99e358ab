/**
 * What a sandbox can reach: the internet's share of it, its own name server, and nothing of the host, the operator's networks or its neighbours. Each probe
 * that must fail is the same program that succeeds elsewhere: on the host, from a namespace that no rule covers, or once the operator has opened the place.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createOne, deleteMany, type Made } from '../bench/lib/sandboxes.ts';
import type { Stack } from '../bench/lib/stack.ts';
import { hostAddresses, hostListeners, instanceLinks, openings, whileOpen, type Opening } from './host-network.ts';
import { python, sh, start } from './inside.ts';
import { CANARY, CANARY_TCP, openWorld, type World } from './outside.ts';
import { FORGE, FRAME, REACH, type Target } from './probes.ts';
import { freshName, isFull, testStack } from './test-stack.ts';

const exec = promisify(execFile);
type Reached = Readonly<Record<string, string>>;

let stack: Stack;
let tenant: Made;
let neighbour: Made;
let world: World;
let ports: { data: number; dns: number; nats: number; postgres: number };
let gatewayIp: string;
let neighbourIp: string;
let device: string;

beforeAll(async () => {
  stack = await testStack();
  tenant = await createOne(stack, freshName('tenant'), { idle: { kind: 'never' } });
  neighbour = await createOne(stack, freshName('neighbour'), { idle: { kind: 'never' } });
  world = await openWorld(stack);
  ports = (JSON.parse(await readFile(join(stack.stateDir, 'places.json'), 'utf8')) as { ports: typeof ports }).ports; // written by `up`
  const address = async (of: Made) =>
    (await sh(stack, of, `ip -4 -o addr show eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'`)).stdout.trim();
  const own = await address(tenant);
  neighbourIp = await address(neighbour);
  gatewayIp = (await sh(stack, tenant, `sed -n 's/^nameserver //p' /etc/resolv.conf`)).stdout.trim();
  device = (await instanceLinks(stack)).find(({ ip }) => ip === own)?.device ?? '';
  if (device === '') throw new Error(`no instance has the address ${own}`);
});

afterAll(async () => {
  await world?.close();
  await deleteMany(
    stack,
    [tenant, neighbour].filter((each) => each !== undefined),
  );
});

/** What must not work is given a second; what must, and all controls, as long as a busy machine may take. */
const SHORT_S = 1;
const PATIENT_S = 15;

const fromInside = async (targets: readonly Target[], withinS = SHORT_S) => {
  const reached: Record<string, string> = {};
  // In lots, below the limit of connections at once, which would hide what the rules do.
  for (let at = 0; at < targets.length; at += 400)
    Object.assign(reached, await python(stack, tenant, REACH, { targets: targets.slice(at, at + 400), withinS }));
  return reached as Reached;
};
const from = async (where: 'host' | 'outsider', targets: readonly Target[], withinS = PATIENT_S) =>
  (await world.python(where, REACH, { targets, withinS })) as Reached;
const thatWork = (reached: Reached) =>
  Object.keys(reached)
    .filter((key) => /^(open|answered)$/.test(reached[key] ?? ''))
    .toSorted();
const keyOf = ([kind, host, port]: Target) => `${kind} ${host} ${port}`;

describe('the host', () => {
  it('is open to a sandbox at no listening port of any address, but for its names and what the operator opened', async () => {
    const { said } = await world.serve('host', CANARY, [['AF_INET', '0.0.0.0', 'SOCK_STREAM', 0]]);
    const canary = Number(said[0]?.split(' ')[1]);
    const listeners = await hostListeners();
    const all = hostAddresses();
    const own = all.filter((address) => !address.startsWith('10.') || address === gatewayIp);
    const targets: Target[] = [...new Set(listeners.map(({ port }) => port))].flatMap((port) =>
      (isFull ? all : own).map((host) => ['tcp', host, port] as const),
    );
    const lawful = new Set([
      ...[53, ports.dns, ports.data].map((port) => `tcp ${gatewayIp} ${port}`),
      ...(await openings(stack)).map(({ proto, ip, port }) => `${proto} ${ip} ${port}`),
    ]);
    expect(thatWork(await fromInside(targets)).filter((key) => !lawful.has(key))).toEqual([]);

    expect(listeners).toContainEqual({ address: '0.0.0.0', port: canary });
    const wild: Target = ['tcp', world.outsider.hostIp, canary];
    expect(thatWork(await from('outsider', [wild]))).toEqual([keyOf(wild)]);
    const loopback = listeners.map(({ address, port }): Target => [
      'tcp',
      address === '0.0.0.0' ? '127.0.0.1' : address === '::' ? '::1' : address,
      port,
    ]);
    expect(thatWork(await from('host', loopback)).length).toBeGreaterThan(loopback.length / 2);
  });

  it('has a loopback that is not the sandbox’s: bus, database and gateway are not there', async () => {
    const targets = [ports.nats, ports.postgres, ports.data, Number(new URL(stack.url).port)].flatMap(
      (port): Target[] => [
        ['tcp', '127.0.0.1', port],
        ['tcp', '::1', port],
        ['tcp', gatewayIp, port],
        ['tcp', '::ffff:127.0.0.1', port],
      ],
    );
    expect(thatWork(await fromInside(targets))).toEqual([]);
    expect(thatWork(await from('host', targets)).filter((key) => key.startsWith('tcp 127.'))).toHaveLength(4);
  });

  it('hears neither a connection nor a datagram at a port of its own that listens everywhere, until the operator opens it', async () => {
    const { said } = await world.serve('host', CANARY, [
      ['AF_INET', '0.0.0.0', 'SOCK_STREAM', 0],
      ['AF_INET6', '::', 'SOCK_STREAM', 0],
      ['AF_INET', '0.0.0.0', 'SOCK_DGRAM', 0],
    ]);
    const [tcp = 0, tcp6 = 0, udp = 0] = said[0]?.split(' ').slice(1).map(Number) ?? [];
    const v4 = hostAddresses().filter(
      (address) => !address.includes(':') && (!address.startsWith('10.') || address === gatewayIp),
    );
    const v6 = hostAddresses().filter((address) => address.includes(':'));
    const targets: Target[] = [
      ...v4.flatMap((host): Target[] => [
        ['tcp', host, tcp],
        ['name', host, udp],
      ]),
      ...v6.map((host): Target => ['tcp', host, tcp6]),
    ];
    expect(thatWork(await fromInside(targets))).toEqual([]);
    expect(said).toHaveLength(1);
    expect(thatWork(await from('host', targets))).toEqual(targets.map(keyOf).toSorted());

    const opened = v4.flatMap((ip): Opening[] => [
      { ip, proto: 'tcp', port: tcp },
      { ip, proto: 'udp', port: udp },
    ]);
    const within = targets.filter(([, host]) => !host.includes(':'));
    expect(thatWork(await whileOpen(stack, opened, () => fromInside(within, PATIENT_S)))).toEqual(
      within.map(keyOf).toSorted(),
    );
  });
});

describe('the networks behind the host', () => {
  let heard: { readonly said: string[] };
  beforeAll(async () => {
    heard = await world.serve('canary', CANARY, [
      ...CANARY_TCP.map((port) => ['AF_INET', '0.0.0.0', 'SOCK_STREAM', port]),
      ...CANARY_TCP.map((port) => ['AF_INET6', '::', 'SOCK_STREAM', port]),
      ['AF_INET', '0.0.0.0', 'SOCK_DGRAM', 53],
      ['AF_INET', '0.0.0.0', 'SOCK_DGRAM', 9],
    ]);
  });

  const targets = (): Target[] => {
    const { privateIp, carrierIp, metadataIp } = world.canary;
    return [privateIp, carrierIp, metadataIp].flatMap((host): Target[] => [
      ...CANARY_TCP.map((port) => ['tcp', host, port] as const),
      ['name', host, 53],
    ]);
  };

  it('are out of reach: private, carrier and metadata addresses, name servers among them', async () => {
    expect(thatWork(await fromInside(targets()))).toEqual([]);
    expect(heard.said).toHaveLength(1);
    const everything = targets().map(keyOf).toSorted();
    expect(thatWork(await from('outsider', targets()))).toEqual(everything);
    const opened = targets().map(([kind, ip, port]): Opening => ({ ip, port, proto: kind === 'tcp' ? 'tcp' : 'udp' }));
    expect(thatWork(await whileOpen(stack, opened, () => fromInside(targets(), PATIENT_S)))).toEqual(everything);
    expect(thatWork(await fromInside(targets()))).toEqual([]);
  });

  it('are out of reach over IPv6', async () => {
    const six = CANARY_TCP.map((port): Target => ['tcp', world.canary.ipv6, port]);
    const before = heard.said.length;
    expect(thatWork(await fromInside(six))).toEqual([]);
    expect(heard.said).toHaveLength(before);
    expect(thatWork(await from('host', six))).toEqual(six.map(keyOf).toSorted());
  });

  it('get no packet from a forged source: the sandbox cannot make one, and one made for it is dropped', async () => {
    expect(await python(stack, tenant, FORGE, neighbourIp)).toEqual({
      raw: 'EPERM',
      packet: 'EPERM',
      transparent: expect.stringMatching(/^E/),
      adopt: 'EPERM',
    });
    expect(await world.python('outsider', FORGE, '172.29.255.1')).toEqual({
      raw: 'possible',
      packet: 'possible',
      transparent: 'possible',
      adopt: 'possible',
    });

    const send = async (where: 'outsider' | { netns: string }, link: string, source: string, word: string) => {
      const mac = (await readFile(`/sys/class/net/${link}/address`, 'utf8')).trim();
      await world.python(where, FRAME, ['eth0', mac, source, world.canary.privateIp, 9, word]);
    };
    const arrived = (word: string) => heard.said.some((line) => line.endsWith(Buffer.from(word).toString('hex')));
    const netns = device.replace(/n(\d+)$/, '-$1');
    const own = (await instanceLinks(stack)).find((each) => each.device === device)?.ip ?? '';
    const opening = [{ ip: world.canary.privateIp, proto: 'udp', port: 9 } as const];
    await whileOpen(stack, opening, async () => {
      await send({ netns }, device, neighbourIp, 'forged-neighbour');
      await send({ netns }, device, '8.8.8.8', 'forged-public');
      await send({ netns }, device, own, 'honest');
      await send('outsider', world.outsider.device, '172.29.255.77', 'forged-elsewhere');
      await vi.waitFor(() => expect([arrived('honest'), arrived('forged-elsewhere')]).toEqual([true, true]), {
        timeout: 20_000,
      });
    });
    expect([arrived('forged-neighbour'), arrived('forged-public')]).toEqual([false, false]);
  });
});

describe('names', () => {
  let forwarder: Target[];
  beforeAll(() => {
    forwarder = [
      ['name', gatewayIp, 53],
      ['tcp', gatewayIp, 53],
    ];
  });

  it('are asked of the forwarder and of nobody else', async () => {
    const theirs = (await readFile('/etc/resolv.conf', 'utf8')).match(/(?<=^nameserver )[\d.]+$/gm) ?? [];
    const elsewhere = ['127.0.0.53', ...theirs, world.canary.privateIp].map((host): Target => ['name', host, 53]);
    expect(thatWork(await fromInside(elsewhere))).toEqual([]);
    expect(thatWork(await from('host', elsewhere)).length).toBeGreaterThan(0);
    expect(thatWork(await fromInside(forwarder, PATIENT_S))).toEqual(forwarder.map(keyOf).toSorted());
  });

  it('are asked by sandboxes of this node only: the forwarder is at no other address of the host, and for nobody else', async () => {
    const addresses = ['127.0.0.1', ...hostAddresses().filter((address) => !address.includes(':'))];
    const places = addresses.flatMap((host): Target[] => [
      ['tcp', host, ports.dns],
      ['name', host, ports.dns],
    ]);
    expect(thatWork(await from('host', places, SHORT_S))).toEqual([]);
    expect(thatWork(await from('outsider', places, SHORT_S))).toEqual([]);
    expect(thatWork(await fromInside(forwarder, PATIENT_S))).toEqual(forwarder.map(keyOf).toSorted());
  });
});

describe('a neighbour', () => {
  it('is out of reach at its own servers and at its guest, as are those that wait in pools', async () => {
    await start(stack, neighbour, 'server', 'python3 -m http.server 8000');
    await vi.waitFor(async () => expect(thatWork(await from('host', [['tcp', neighbourIp, 8000]]))).toHaveLength(1), {
      timeout: 30_000,
    });
    const guestPort = Number(/:(\d+)/.exec((await sh(stack, tenant, `tr '\\0' ' ' < /proc/1/cmdline`)).stdout)?.[1]);
    const links = (await instanceLinks(stack)).filter((link) => link.device !== device);
    const targets: Target[] = [['tcp', neighbourIp, 8000], ...links.map(({ ip }): Target => ['tcp', ip, guestPort])];
    expect(targets.length).toBeGreaterThan(1);
    const opened = targets.map(([, ip, port]): Opening => ({ ip, port, proto: 'tcp' }));
    expect(thatWork(await fromInside(targets))).toEqual([]);
    // Not even an operator's opening leads from one sandbox to another.
    expect(thatWork(await whileOpen(stack, opened, () => fromInside(targets)))).toEqual([]);
    const awake = targets.filter(([, ip]) => ip === neighbourIp); // those that sleep in pools answer nobody
    expect(awake).toHaveLength(2);
    expect(thatWork(await from('host', awake))).toEqual(awake.map(keyOf).toSorted());
  });

  it('is not to be overheard: what it sends is not in the sandbox’s namespace', async () => {
    const netns = device.replace(/n(\d+)$/, '-$1');
    const { stdout } = await exec('ip', ['-n', netns, '-o', 'link']);
    expect(
      stdout
        .trim()
        .split('\n')
        .map((line) => line.split(': ')[1]?.replace(/@.*/, ''))
        .toSorted(),
    ).toEqual(['eth0', 'lo']);
  });
});
