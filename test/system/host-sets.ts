/** What one node has on the host, read past all of our processes, and what its journal says it should have. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Stack } from '../bench/lib/stack.ts';

const exec = promisify(execFile);

/** Each set sorted, so that two can be compared as they are. Slots as text. */
export interface HostSets {
  readonly runsc: readonly string[];
  readonly bundles: readonly string[];
  readonly mounts: readonly string[];
  readonly cgroups: readonly string[];
  readonly subvolumes: readonly string[];
  readonly netns: readonly string[];
  readonly veths: readonly string[];
  readonly nftables: readonly string[];
}

export async function readHost({ scope, stateDir }: Pick<Stack, 'scope' | 'stateDir'>): Promise<HostSets> {
  const runDir = `/run/torpor/${scope}`;
  const [runsc, bundles, mounts, cgroups, subvolumes, netns, veths, nftables] = await Promise.all([
    // runsc keeps `<id>_sandbox:<id>.state` for each container.
    namesIn(join(runDir, 'runsc')).then((names) => pick(names, /^([a-z0-9]+)_sandbox:.*\.state$/)),
    namesIn(join(runDir, 'bundles')),
    mountPoints().then((all) => pick(all, new RegExp(`^${runDir}/bundles/([a-z0-9]+)/rootfs$`))),
    cgroupsOf(scope),
    namesIn(join(stateDir, 'pool/i')),
    namesIn('/run/netns').then((names) => pick(names, new RegExp(`^tp${scope}-(\\d+)$`))),
    namesIn('/sys/class/net').then((names) => pick(names, new RegExp(`^tp${scope}n(\\d+)$`))),
    nftSlots(scope),
  ]);
  return {
    runsc: sorted(runsc),
    bundles: sorted(bundles),
    mounts: sorted(mounts),
    cgroups: sorted(cgroups),
    subvolumes: sorted(subvolumes),
    netns: sorted(netns),
    veths: sorted(veths),
    nftables: sorted(nftables),
  };
}

export interface Journaled {
  readonly id: string;
  readonly slot: number;
  /** Made, and neither half claimed, nor between sleep and waking, nor being destroyed. */
  readonly isSettled: boolean;
  /** Nothing of it runs: it is an image and a disk. */
  readonly isStored: boolean;
  readonly name: string | undefined;
  readonly process: { readonly pid: number; readonly startTicks: number } | undefined;
}

/** The node's journal, read from its files with a reader of our own. */
export async function readJournal({ stateDir }: Pick<Stack, 'stateDir'>): Promise<readonly Journaled[]> {
  const dir = join(stateDir, 'node/journal');
  const ids = await namesIn(dir);
  const read = await Promise.all(ids.map(async (id) => [id, await textOf(join(dir, id, 'log.ndjson'))] as const));
  return read.flatMap(([id, text]) => (text === undefined ? [] : [journaled(id, text)])); // gone since the listing
}

interface JournalLine {
  readonly kind: string;
  readonly operation?: string;
  readonly spec?: { readonly slot: number };
  readonly claim?: { readonly name: string };
  readonly process?: Journaled['process'];
}

function journaled(id: string, text: string): Journaled {
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  // The node-agent's own lines; a field that is missing shows as a difference from the host.
  const lines = whole
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as JournalLine);
  const has = (kind: string, operation: string) =>
    lines.some((line) => line.kind === kind && line.operation === operation);
  const tier = tierAfter(lines);
  const isWhole = has('done', 'create') && has('intent', 'claim') === has('done', 'claim');
  return {
    id,
    slot: lines.find((line) => line.spec)?.spec?.slot ?? -1,
    isSettled: isWhole && tier !== 'between' && !has('intent', 'destroy'),
    isStored: tier === 'stored',
    name: lines.find((line) => line.claim)?.claim?.name,
    process: lines.findLast((line) => line.process)?.process,
  };
}

/** Which of the two it is: in RAM, or let go. A death leaves what a wake clears away. */
function tierAfter(lines: readonly JournalLine[]): 'in RAM' | 'between' | 'stored' {
  const goes = new Set(['release', 'restore', 'boot']);
  const last = lines.findLast(({ kind, operation = '' }) => kind === 'lives' || kind === 'died' || goes.has(operation));
  if (last === undefined || last.kind === 'lives') return 'in RAM';
  if (last.kind !== 'done') return 'between';
  return last.operation === 'release' ? 'stored' : 'in RAM';
}

/** What the host must show when everything the journal says is true. */
export function wantedHost(journal: readonly Journaled[]): HostSets {
  const all = sorted(journal.map(({ id }) => id));
  const ids = sorted(journal.flatMap(({ id, isStored }) => (isStored ? [] : [id])));
  const slots = sorted(journal.map(({ slot }) => String(slot)));
  return {
    runsc: ids,
    bundles: ids,
    mounts: ids,
    cgroups: ids,
    subvolumes: all,
    netns: slots,
    veths: slots,
    nftables: slots,
  };
}

export async function isProcess(process: Journaled['process']): Promise<boolean> {
  const stat = process && (await textOf(`/proc/${process.pid}/stat`));
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19] === String(process?.startTicks);
}

/** Whether a process runs; one that nobody has buried yet does not. */
export async function runs(pid: number): Promise<boolean> {
  const stat = await textOf(`/proc/${pid}/stat`);
  return stat !== undefined && !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
}

/** hostd's own inventory, asked over its socket, in the words of `HostSets`. */
export async function askInventory({ scope }: Pick<Stack, 'scope'>): Promise<HostSets> {
  const found = await askHostd<Record<string, (string | number)[]>>(scope, 'inventory');
  const of = (key: string) => sorted((found[key] ?? []).map(String));
  return {
    runsc: of('sandboxes'),
    bundles: of('bundles'),
    mounts: of('mounts'),
    cgroups: of('cgroups'),
    subvolumes: of('disks'),
    netns: of('netns'),
    veths: of('veths'),
    nftables: of('netElements'),
  };
}

/** A verb without arguments, over its socket. */
export function askHostd<T>(scope: string, verb: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const socket = connect(`/run/torpor/${scope}/hostd.sock`);
    let text = '';
    socket
      .setEncoding('utf8')
      .setTimeout(5_000, () => socket.destroy(new Error(`hostd ${verb}: no answer within 5000 ms`)));
    socket.once('error', reject).once('close', () => reject(new Error(`hostd ${verb}: the connection ended`)));
    socket.on('data', (part: string) => {
      text += part;
      if (!text.endsWith('\n')) return;
      const answer = JSON.parse(text) as { ok: boolean; result: T; error: unknown }; // PROTOCOL.md
      if (answer.ok) resolve(answer.result);
      else reject(new Error(`hostd ${verb}: ${JSON.stringify(answer.error)}`));
      socket.destroy();
    });
    socket.write(`${JSON.stringify({ id: 1, verb, args: {} })}\n`);
  });
}

/** Of every hierarchy there is: an instance that is left in one of them is left. */
async function cgroupsOf(scope: string): Promise<string[]> {
  const root = '/sys/fs/cgroup';
  const parents = ['', ...(await readdir(root))].map((hierarchy) => join(root, hierarchy, `torpor-${scope}`));
  const found = await Promise.all(
    parents.filter((parent) => existsSync(parent)).map((parent) => readdir(parent, { withFileTypes: true })),
  );
  return [...new Set(found.flat().flatMap((entry) => (entry.isDirectory() ? entry.name : [])))];
}

async function nftSlots(scope: string): Promise<string[]> {
  const { stdout } = await exec('nft', ['-j', 'list', 'table', 'inet', `torpor_${scope}`]).catch(() => ({
    stdout: '',
  })); // no table, no elements
  return [...new Set([...stdout.matchAll(new RegExp(`tp${scope}n(\\d+)`, 'g'))].map(([, slot]) => slot ?? ''))];
}

export async function mountPoints(): Promise<string[]> {
  return (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' ')[1] ?? '');
}

export async function namesIn(dir: string): Promise<string[]> {
  return existsSync(dir) ? readdir(dir) : [];
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH'))
      return undefined;
    throw error;
  }
}

function pick(names: readonly string[], pattern: RegExp): string[] {
  return names.flatMap((name) => pattern.exec(name)?.[1] ?? []);
}

function sorted(names: readonly string[]): string[] {
  return names.toSorted();
}
