import { statfs } from 'node:fs/promises';
import { isIP } from 'node:net';
import { dirname } from 'node:path';
import type { NodeAgentConfig } from '@torpor/config';
import { SwapKind } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';

/** What a person may choose at `up`. */
export interface Settings {
  /** Address that the gateway listens on; default loopback. */
  readonly listen: string;
  /** What the outside calls the gateway; default from the listening address. */
  readonly publicUrl: string | undefined;
  /** Instances kept ready per template and shape. */
  readonly pool: number;
  /** Size of the disk pool; default a quarter of what is free, at most 64 GiB, at least 4. */
  readonly diskGib: number | undefined;
  /** Memory of the host that sandboxes leave free, MiB; default 768. */
  readonly memoryKeptMib: number | undefined;
  /** What sleeping is reckoned to cost; default: see the node-agent's configuration. */
  readonly prices: NodeAgentConfig['prices'] | undefined;
  /** What sleepers are paged out to; default `auto`. */
  readonly swap: SwapKind;
  /** Size of what is made for it; default half the memory. */
  readonly swapMib: number | undefined;
  /** How long a sandbox sleeps in RAM before it is paged out; 0: only when the host is short of memory. */
  readonly leanAfterMs: number | undefined;
  /** Nodes on this machine; more than one to try out what nodes do with each other. */
  readonly nodes: number;
  readonly databaseUrl: string | undefined;
  readonly natsUrl: string | undefined;
  /** Default: the one that was used last, at first `main`. */
  readonly workspace: string | undefined;
}

export const DEFAULT_POOL = 8;

export function settingsFrom(options: Partial<Record<string, string>>, env: NodeJS.ProcessEnv): Settings {
  return {
    listen: address(options.listen ?? env.TORPOR_LISTEN ?? '127.0.0.1'),
    publicUrl: webUrl((options.publicUrl ?? env.TORPOR_PUBLIC_URL)?.replace(/\/+$/, '')),
    pool: wholeNumber('--pool', options.pool ?? env.TORPOR_POOL) ?? DEFAULT_POOL,
    diskGib: wholeNumber('--disk', options.disk ?? env.TORPOR_DISK_GIB),
    memoryKeptMib: wholeNumber('TORPOR_MEMORY_KEPT_MIB', env.TORPOR_MEMORY_KEPT_MIB),
    prices: prices(env.TORPOR_PRICES),
    swap: swapKind(options.swap ?? env.TORPOR_SWAP ?? 'auto'),
    swapMib: wholeNumber('--swap-mib', options.swapMib ?? env.TORPOR_SWAP_MIB),
    leanAfterMs: seconds('--lean-after', options.leanAfter ?? env.TORPOR_LEAN_AFTER),
    nodes: wholeNumber('--nodes', options.nodes ?? env.TORPOR_NODES) ?? 1,
    databaseUrl: env.DATABASE_URL,
    natsUrl: env.NATS_URL,
    workspace: options.workspace ?? env.TORPOR_WORKSPACE,
  };
}

function address(text: string): string {
  if (isIP(text) === 0 && text !== 'localhost')
    throw new Failure('bad_request', `--listen expects an address such as 0.0.0.0, got "${text}"`);
  return text;
}

function webUrl(text: string | undefined): string | undefined {
  const isWeb = text === undefined || /^https?:$/.test(URL.parse(text)?.protocol ?? '');
  if (!isWeb)
    throw new Failure('bad_request', `--public-url expects one that begins with http:// or https://, got "${text}"`);
  return text;
}

function swapKind(text: string): SwapKind {
  const kind = SwapKind.safeParse(text);
  if (kind.success) return kind.data;
  throw new Failure('bad_request', `--swap expects one of ${SwapKind.options.join(', ')}, got "${text}"`);
}

function seconds(name: string, text: string | undefined): number | undefined {
  const whole = wholeNumber(name, text);
  return whole === undefined ? undefined : whole * 1_000;
}

function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,6}$/.test(text)) throw new Failure('bad_request', `${name} expects a whole number, got "${text}"`);
  return Number(text);
}

/** Of a GiB of RAM, a GiB of disk and a core, each for an hour, such as `0.005,0.00011,0.04`. */
function prices(text: string | undefined): NodeAgentConfig['prices'] | undefined {
  if (text === undefined) return undefined;
  const [ramGibHour = NaN, diskGibHour = NaN, cpuHour = NaN, ...more] = text.split(',').map(Number);
  if (more.length > 0 || ![ramGibHour, diskGibHour, cpuHour].every((price) => price >= 0)) {
    throw new Failure(
      'bad_request',
      `TORPOR_PRICES expects three numbers, of an hour of a GiB of RAM, a GiB of disk and a core, such as 0.005,0.00011,0.04; got "${text}"`,
    );
  }
  return { ramGibHour, diskGibHour, cpuHour };
}

/** The pool is fallocated: its size is taken from the disk at once and kept. */
export async function poolSizeMib(stateDir: string, chosenGib: number | undefined): Promise<number> {
  if (chosenGib !== undefined) return chosenGib * 1024;
  const { bavail, bsize } = await statfs(dirname(stateDir));
  const freeMib = (bavail * bsize) / 2 ** 20;
  const wanted = Math.min(64 * 1024, Math.max(4 * 1024, Math.floor(freeMib / 4)));
  if (wanted > freeMib - 1024) {
    throw new Failure(
      'bad_request',
      `the disk pool needs ${wanted} MiB below ${dirname(stateDir)}, only ${Math.floor(freeMib)} MiB are free; free some, or choose a size with --disk GIB`,
    );
  }
  return wanted;
}
