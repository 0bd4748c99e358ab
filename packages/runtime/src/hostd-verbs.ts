/** The verbs of packages/hostd/PROTOCOL.md that the node-agent uses: their arguments, their results and what must be true before one is sent. */
import { FileComparison, SwapArea } from '@torpor/contracts';
import { z } from 'zod';
import { ParcelContents } from './parcels.ts';
import type { CompareLimits, MergeSpec } from './port.ts';

export interface EgressRule {
  readonly ip: string;
  readonly port: number;
  readonly proto: 'tcp' | 'udp';
}

/** What an image wants its shell to be made of: it stands in its manifest, as hostd said it. */
export const MadeOf = z.object({
  build: z.object({ runsc: z.string(), hostd: z.string() }),
  lower: z.array(z.string()),
  argv: z.array(z.string()),
  memoryMib: z.number(),
  nofile: z.number(),
  volumeDir: z.boolean(),
});
export type MadeOf = z.infer<typeof MadeOf>;

export interface VerbArgs {
  readonly hello: { readonly protocol: 1 };
  readonly 'node.prepare': {
    readonly pool: { readonly sizeMib: number; readonly reserveMib: number };
    readonly subnet: string;
    readonly hostPorts: { readonly guestToHost: readonly number[] };
    readonly dns: { readonly listenPort: number };
    readonly egress: { readonly allow: readonly EgressRule[] };
    readonly swap: { readonly kinds: readonly ('crypt' | 'zram' | 'file')[]; readonly sizeMib: number };
    readonly limits: { readonly bandwidthMbit: number; readonly connections: number };
  };
  readonly 'node.usage': Record<string, never>;
  readonly 'egress.set': { readonly allow: readonly EgressRule[] };
  readonly 'disk.create': { readonly id: string; readonly diskMib: number; readonly from?: string };
  readonly 'disk.delete': { readonly id: string };
  readonly 'disk.usage': { readonly id: string };
  readonly 'disk.stats': { readonly ids: readonly string[] };
  readonly 'net.create': { readonly id: string; readonly slot: number };
  readonly 'net.delete': { readonly id: string; readonly slot: number };
  readonly 'sandbox.create': {
    readonly id: string;
    readonly slot: number;
    readonly lower: readonly string[];
    readonly hostname: string;
    readonly limits: {
      readonly memoryMib: number;
      readonly cpus: number;
      readonly pids: number;
      readonly nofile: number;
    };
    readonly argv: readonly string[];
    /** `NAME=value`. */
    readonly env: readonly string[];
    readonly volumeDir: boolean;
    /** hostd's own when none is named. */
    readonly build?: MadeOf['build'];
  };
  readonly 'image.save': {
    readonly id: string;
    readonly image: string;
    /** Base64. */
    readonly key: string;
    readonly compress: 'auto' | 'none';
  };
  readonly 'disk.snapshot': { readonly id: string; readonly image: string };
  readonly 'image.seal': { readonly image: string; readonly manifest: Readonly<Record<string, unknown>> };
  readonly 'image.verify': { readonly image: string; readonly key: string };
  readonly 'image.read': { readonly image: string };
  readonly 'image.list': Record<string, never>;
  readonly 'image.delete': { readonly image: string };
  readonly 'sandbox.restore': { readonly id: string; readonly image: string; readonly key: string };
  readonly 'disk.restore': { readonly id: string; readonly image: string; readonly keep?: string };
  readonly 'parcel.pack': { readonly image: string; readonly key: string; readonly diskAlone?: boolean };
  readonly 'parcel.open': { readonly image: string; readonly needMib: number };
  readonly 'parcel.unpack': {
    readonly image: string;
    readonly key: string;
    readonly diskDigest: string;
    readonly diskMib: number;
    readonly diskUsedMib: number;
    readonly diskAlone?: boolean;
  };
  readonly 'parcel.delete': { readonly image: string };
  readonly 'files.compare': {
    /** Two, or base, fork and here. */
    readonly images: readonly string[];
    /** Base64; empty: everything. */
    readonly under: string;
    readonly limits: CompareLimits;
  };
  readonly 'files.pack': {
    readonly id: string;
    readonly image: string;
    readonly merge: MergeSpec;
    readonly limits: CompareLimits;
  };
  readonly 'files.drop': { readonly id: string };
  readonly 'volume.create': {
    readonly volume: string;
    readonly sizeMib: number;
    /** A volume to copy; with `image`, as that image holds it. */
    readonly from?: string;
    readonly image?: string;
  };
  readonly 'volume.delete': { readonly volume: string };
  readonly 'volume.attach': { readonly id: string; readonly volume: string; readonly name: string };
  readonly 'volume.detach': { readonly id: string; readonly volume: string; readonly name: string };
  readonly 'volume.restore': { readonly volume: string; readonly image: string; readonly from: string };
  readonly 'volume.stats': {
    readonly volumes: readonly { readonly volume: string; readonly id?: string; readonly name?: string }[];
  };
  readonly 'sandbox.start': { readonly id: string };
  readonly 'sandbox.pause': { readonly id: string };
  readonly 'sandbox.resume': { readonly id: string };
  readonly 'sandbox.lean': { readonly id: string; readonly budgetMs: number };
  readonly 'sandbox.state': { readonly id: string };
  readonly 'sandbox.kill': { readonly id: string };
  readonly 'sandbox.delete': { readonly id: string };
  readonly 'sandbox.stats': { readonly ids: readonly string[] };
  readonly inventory: Record<string, never>;
}

export type Verb = keyof VerbArgs;

const nothing = z.unknown();
// Go writes an empty list as null.
const ids = z
  .array(z.string())
  .nullish()
  .transform((list) => list ?? []);
const slots = z
  .array(z.number().int())
  .nullish()
  .transform((list) => list ?? []);

/** Targets of links need not be text; hostd gives their bytes. */
function withTextTargets(answer: unknown): unknown {
  return JSON.parse(JSON.stringify(answer), (name, value: unknown) =>
    name === 'target' && typeof value === 'string' ? Buffer.from(value, 'base64').toString() : value,
  );
}

const RESULTS = {
  hello: z.object({
    protocol: z.number(),
    scope: z.string(),
    pid: z.number(),
    runsc: z.object({ path: z.string(), version: z.string() }),
  }),
  'node.prepare': z.object({
    pool: z.object({ totalMib: z.number(), freeMib: z.number() }),
    swapTrouble: z.array(z.string()).default([]),
  }),
  'node.usage': z.object({
    pool: z.object({ totalMib: z.number(), freeMib: z.number(), reserveMib: z.number() }),
    memory: z.object({ totalMib: z.number(), availableMib: z.number(), pressure: z.number().default(0) }),
    swap: z.object({
      areas: z.array(SwapArea).default([]),
    }),
  }),
  'egress.set': nothing,
  'disk.create': nothing,
  'disk.delete': nothing,
  'disk.usage': z.object({ usedMib: z.number(), limitMib: z.number() }),
  'disk.stats': z.record(z.string(), z.object({ usedMib: z.number(), limitMib: z.number() })),
  'net.create': z.object({ ip: z.string(), hostIp: z.string() }),
  'net.delete': nothing,
  'sandbox.create': z.object({ pid: z.number(), startTicks: z.number() }),
  'image.save': z.object({
    bytes: z.number(),
    memoryBytes: z.number(),
    digest: z.string(),
    stallMs: z.number(),
    saveMs: z.number(),
    madeOf: MadeOf.optional(),
  }),
  'disk.snapshot': z.object({
    volumes: z
      .array(z.object({ volume: z.string(), name: z.string() }))
      .nullish()
      .transform((list) => list ?? []),
  }),
  'image.seal': z.object({ fsyncMs: z.number() }),
  'image.verify': z.object({ verifyMs: z.number() }),
  'image.read': z.object({ manifest: z.looseObject({ madeOf: MadeOf.optional() }) }),
  'image.list': z.object({
    images: z.array(z.object({ image: z.string(), sealed: z.boolean(), bytes: z.number() })),
  }),
  'image.delete': nothing,
  'sandbox.restore': z.object({ pid: z.number(), startTicks: z.number(), restoreMs: z.number() }),
  'disk.restore': nothing,
  'parcel.pack': ParcelContents.extend({ path: z.string() }),
  'parcel.open': z.object({ path: z.string() }),
  'parcel.unpack': nothing,
  'parcel.delete': nothing,
  'files.compare': z.preprocess(withTextTargets, FileComparison),
  'files.pack': z.object({ path: z.string() }),
  'files.drop': nothing,
  'volume.create': nothing,
  'volume.delete': nothing,
  'volume.attach': nothing,
  'volume.detach': nothing,
  'volume.restore': nothing,
  'volume.stats': z.record(z.string(), z.object({ usedMib: z.number(), limitMib: z.number() })),
  'sandbox.start': nothing,
  'sandbox.pause': z.object({ frozen: z.literal(true), cpuUsageNs: z.number(), tookUs: z.number() }),
  'sandbox.resume': z.object({
    already: z.boolean().optional(),
    thawUs: z.number().optional(),
    resumeUs: z.number().optional(),
  }),
  'sandbox.lean': z.object({
    residentBytes: z.number(),
    swappedBytes: z.number(),
    gaveWay: z.boolean(),
    tookUs: z.number(),
  }),
  'sandbox.state': z.object({
    exists: z.boolean(),
    pid: z.number().optional(),
    startTicks: z.number().optional(),
    runsc: z.enum(['created', 'running', 'paused', 'stopped', 'absent']),
    frozen: z.boolean(),
    memoryMib: z.number().optional(),
    cpuUsageNs: z.number().optional(),
    oomKills: z.number().optional(),
    pidsRefused: z.number().optional(),
    death: z
      .object({
        cause: z.string(),
        exitCode: z.number().optional(),
        signal: z.number().optional(),
        said: z.string().optional(),
      })
      .optional(),
  }),
  'sandbox.kill': nothing,
  'sandbox.delete': nothing,
  'sandbox.stats': z.record(
    z.string(),
    z.object({
      memoryMib: z.number(),
      swapMib: z.number().default(0),
      cpuUsageNs: z.number(),
      rxBytes: z.number(),
      txBytes: z.number(),
    }),
  ),
  inventory: z.object({
    sandboxes: ids,
    bundles: ids,
    netns: slots,
    veths: slots,
    mounts: ids,
    cgroups: ids,
    disks: ids,
    netElements: slots,
  }),
} satisfies Record<Verb, z.ZodType>;

export type VerbResult<V extends Verb> = z.infer<(typeof RESULTS)[V]>;

export function parseResult<V extends Verb>(verb: V, result: unknown): VerbResult<V> {
  return RESULTS[verb].parse(result) as VerbResult<V>; // the table's entry for V parses to V's result; TypeScript cannot follow the index
}

/** Verbs that change an instance and so need a journaled intent. Pausing, resuming and paging out can be read back from the kernel and need none. */
export type JournaledVerb =
  | 'disk.create'
  | 'disk.delete'
  | 'net.create'
  | 'net.delete'
  | 'sandbox.create'
  | 'sandbox.start'
  | 'sandbox.kill'
  | 'sandbox.delete'
  | 'image.save'
  | 'image.seal'
  | 'image.delete'
  | 'disk.snapshot'
  | 'disk.restore'
  | 'sandbox.restore'
  | 'parcel.pack'
  | 'parcel.unpack'
  | 'parcel.delete'
  | 'volume.create'
  | 'volume.delete'
  | 'volume.attach'
  | 'volume.detach'
  | 'volume.restore';

/**
 * The others: they read, or they bring the node (no instance of it) to what its configuration says, or they are pause, page-out and wake.
 */
export type FreeVerb = Exclude<Verb, JournaledVerb>;

const FREE: ReadonlySet<string> = new Set<FreeVerb>([
  'hello',
  'node.prepare',
  'node.usage',
  'egress.set',
  'disk.usage',
  'disk.stats',
  'sandbox.pause',
  'sandbox.resume',
  'sandbox.lean',
  'sandbox.state',
  'sandbox.stats',
  'inventory',
  'image.list',
  'image.read',
  'image.verify',
  // What is left of it is found and removed with its image.
  'parcel.open',
  'volume.stats',
  'files.compare',
  // What they leave goes with the instance's disk at the latest.
  'files.pack',
  'files.drop',
]);

/** Whatever is not known to be free needs an intent, also a verb that a later hostd brings. */
export function needsIntent(verb: string): boolean {
  return !FREE.has(verb);
}
