import { statfs } from 'node:fs/promises';
import { isIP } from 'node:net';
import { dirname } from 'node:path';
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

function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,6}$/.test(text)) throw new Failure('bad_request', `${name} expects a whole number, got "${text}"`);
  return Number(text);
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
