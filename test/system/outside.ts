/**
 * The world around the sandboxes, as a test needs it: the same interpreter on the host's side, a network namespace that is nobody's sandbox (the
 * *outsider*: what our rules do not cover), and one with servers on addresses that no sandbox may reach (the *canary*). All of it vanishes with `close`.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { Stack } from '../bench/lib/stack.ts';
import { namesIn } from './host-sets.ts';

const exec = promisify(execFile);

/** Addresses of the canary, each of a kind that DESIGN §7 denies. */
export interface World {
  readonly canary: {
    readonly privateIp: string;
    readonly carrierIp: string;
    readonly metadataIp: string;
    readonly ipv6: string;
  };
  /** The host's end of the outsider's link, and the outsider's. */
  readonly outsider: { readonly hostIp: string; readonly ip: string; readonly device: string };
  /** Runs a Python program beside the host, or in one of the namespaces. */
  python(where: 'host' | 'outsider' | { netns: string }, program: string, input: unknown): Promise<unknown>;
  /** A Python program that runs until it is ended; every line it prints is kept. */
  serve(where: 'host' | 'canary', program: string, input: unknown): Promise<{ readonly said: string[] }>;
  close(): Promise<void>;
}

export const CANARY_TCP = [53, 80, 4222, 5432] as const;

/** Says "ready" once every socket listens, then a line for whatever reaches one. */
export const CANARY = `
import json, select, socket, struct, sys
listeners, PKTINFO = [], 8
for family, host, kind, port in json.load(sys.stdin):
    s = socket.socket(getattr(socket, family), getattr(socket, kind))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == "AF_INET6": s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((host, port))
    if kind == "SOCK_STREAM": s.listen(64)
    else: s.setsockopt(socket.IPPROTO_IP, PKTINFO, 1)
    listeners.append(s)
print("ready " + " ".join(str(s.getsockname()[1]) for s in listeners), flush=True)
while True:
    for s in select.select(listeners, [], [])[0]:
        if s.type == socket.SOCK_STREAM:
            c, who = s.accept(); c.sendall(b"canary"); c.close(); print("tcp", s.getsockname()[1], who[0], flush=True)
        else:
            # The answer leaves from the address that was asked, though the socket is bound to all.
            data, notes, _, who = s.recvmsg(2048, 64)
            s.sendmsg([data[:2] + b"\\x81\\x80" + data[4:]], [(socket.IPPROTO_IP, PKTINFO, struct.pack("I4s4x", 0, notes[0][2][4:8]))], 0, who)
            print("udp", s.getsockname()[1], who[0], data[-24:].hex(), flush=True)
`;

export async function openWorld(stack: Stack): Promise<World> {
  await clearLeftovers();
  const mark = process.pid.toString(36);
  const third = process.pid % 250;
  const sixth = (process.pid % 0xffff).toString(16);
  const canaryNs = `tt-canary-${mark}`;
  const outsiderNs = `tt-outsider-${mark}`;
  const canary = {
    privateIp: `172.30.${third}.2`,
    carrierIp: '100.64.77.1',
    metadataIp: '169.254.169.254',
    ipv6: `fd77:${sixth}:1::2`,
  };
  const outsider = { hostIp: `172.29.${third}.1`, ip: `172.29.${third}.2`, device: `tt${mark}o0` };
  const interpreter = await templateDir(stack);
  const children: ChildProcess[] = [];

  async function close(): Promise<void> {
    for (const child of children) child.kill('SIGKILL');
    // Their links and routes go with them. By name in either order: a half-made world is taken down too.
    for (const ns of [canaryNs, outsiderNs]) await exec('ip', ['netns', 'del', ns]).catch(() => undefined);
  }

  try {
    await link(canaryNs, `tt${mark}c0`, `172.30.${third}.1`, canary.privateIp, [`fd77:${sixth}:1::1`, canary.ipv6]);
    await ip('-n', canaryNs, 'addr', 'add', `${canary.metadataIp}/32`, 'dev', 'lo');
    await ip('-n', canaryNs, 'addr', 'add', `${canary.carrierIp}/32`, 'dev', 'lo');
    await ip('route', 'add', `${canary.metadataIp}/32`, 'via', canary.privateIp);
    await ip('route', 'add', `${canary.carrierIp}/32`, 'via', canary.privateIp);
    await link(outsiderNs, outsider.device, outsider.hostIp, outsider.ip, [`fd77:${sixth}:2::1`, `fd77:${sixth}:2::2`]);
    await ip('-n', outsiderNs, '-6', 'route', 'add', 'default', 'via', `fd77:${sixth}:2::1`);
  } catch (error) {
    await close();
    throw error;
  }

  const command = (netns: string | undefined, program: string): [string, string[]] => {
    const inTemplate = [interpreter, '/usr/bin/python3', '-c', program];
    return netns === undefined ? ['chroot', inTemplate] : ['ip', ['netns', 'exec', netns, 'chroot', ...inTemplate]];
  };

  return {
    canary,
    outsider,
    python: async (where, program, input) => {
      const netns = where === 'host' ? undefined : where === 'outsider' ? outsiderNs : where.netns;
      const child = spawn(...command(netns, program), { stdio: ['pipe', 'pipe', 'pipe'], timeout: 60_000 });
      child.stdin.end(JSON.stringify(input));
      let out = '';
      let problem = '';
      child.stdout.on('data', (bytes: Buffer) => (out += bytes.toString()));
      child.stderr.on('data', (bytes: Buffer) => (problem += bytes.toString()));
      const [code] = (await once(child, 'close')) as [number | null];
      if (code !== 0) throw new Error(`the program beside the host ended with ${code}: ${problem.slice(-1_000)}`);
      return JSON.parse(out) as unknown;
    },
    serve: async (where, program, input) => {
      const child = spawn(...command(where === 'host' ? undefined : canaryNs, program), {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      children.push(child);
      child.stdin.end(JSON.stringify(input));
      const said: string[] = [];
      const lines = createInterface(child.stdout);
      const ready = once(lines, 'line', { signal: AbortSignal.timeout(60_000) });
      lines.on('line', (line) => said.push(line));
      await ready;
      return { said };
    },
    close,
  };
}

/** Namespaces of test runs that were killed, and the servers in them: their routes would stand in the way of ours. */
async function clearLeftovers(): Promise<void> {
  for (const name of await namesIn('/run/netns')) {
    const mark = /^tt-(?:canary|outsider)-([a-z0-9]+)$/.exec(name)?.[1];
    if (mark === undefined || existsSync(`/proc/${Number.parseInt(mark, 36)}`)) continue;
    const { stdout } = await exec('ip', ['netns', 'pids', name]);
    for (const pid of stdout.trim().split('\n').filter(Boolean)) process.kill(Number(pid), 'SIGKILL');
    await ip('netns', 'del', name);
  }
}

function ip(...args: string[]): Promise<unknown> {
  return exec('ip', args);
}

/** A namespace with one link to the host, forwarded and unjudged: its names do not begin as a sandbox's do. */
async function link(
  ns: string,
  device: string,
  hostIp: string,
  insideIp: string,
  [host6, inside6]: [string, string],
): Promise<void> {
  await ip('netns', 'add', ns);
  await ip('link', 'add', device, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', ns);
  await ip('addr', 'add', `${hostIp}/30`, 'dev', device);
  await ip('-6', 'addr', 'add', `${host6}/64`, 'dev', device, 'nodad');
  await ip('link', 'set', device, 'up');
  await ip('-n', ns, 'link', 'set', 'lo', 'up');
  await ip('-n', ns, 'addr', 'add', `${insideIp}/30`, 'dev', 'eth0');
  await ip('-n', ns, '-6', 'addr', 'add', `${inside6}/64`, 'dev', 'eth0', 'nodad');
  await ip('-n', ns, 'link', 'set', 'eth0', 'up');
  await ip('-n', ns, 'route', 'add', 'default', 'via', hostIp);
}

async function templateDir(stack: Stack): Promise<string> {
  const config = JSON.parse(await readFile(join(stack.stateDir, 'config', 'node-agent.json'), 'utf8')) as {
    driver: { templates: { lower: string[] }[] };
  }; // written by `up`
  const dir = config.driver.templates[0]?.lower.at(-1);
  if (dir === undefined) throw new Error('the node-agent has no template');
  return dir;
}
