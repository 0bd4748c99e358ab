/**
 * What each room is told when it starts: plain settings in one JSON file (`TORPOR_CONFIG`), secrets in another that only the room's user can read
 * (`TORPOR_SECRETS`). `torpor up` writes both; an operator of several boxes writes them by hand or by their own tooling.
 */
import { DEFAULT_SHAPE, Isolation, NodeId, Shape, SwapKind } from '@torpor/contracts';
import { z } from 'zod';

const Common = z.object({
  /** Six hex digits; names and ranges on the host derive from it. */
  installation: z.string().regex(/^[0-9a-f]{6}$/),
  version: z.string(),
  nats: z.object({ url: z.string(), user: z.string() }),
  /** OTLP/HTTP endpoint for traces; absent: none are exported. */
  otlpEndpoint: z.string().optional(),
  logLevel: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  /** Where the room serves `/healthz` and `/metrics`: loopback only. */
  observe: z.object({ host: z.string(), port: z.number().int() }),
});

const CommonSecrets = z.object({ natsPassword: z.string() });

const NO_SUBNET = 'must be a /16 of IPv4 addresses, such as 10.83.0.0/16';
const Subnet = z.cidrv4(NO_SUBNET).endsWith('.0.0/16', NO_SUBNET);

const Database = z.object({ poolMax: z.number().int().default(10) });

export const GatewayConfig = Common.extend({
  database: Database,
  listen: z.object({ host: z.string(), port: z.number().int() }),
  /** What the outside calls us: base of every URL that we hand out, without a trailing slash. */
  publicUrl: z.string(),
});
export const GatewaySecrets = CommonSecrets.extend({
  databaseUrl: z.string(),
  /** Opens the data-plane listeners of the nodes. */
  dataKey: z.string(),
  /** 32 bytes, base64: seals secrets at rest. */
  sealingKey: z.string(),
});

export const SchedulerConfig = Common.extend({
  database: Database,
  /** A node that was not heard of for this long loses its lease; its instances freeze themselves at T and may be re-placed after 2T. */
  leaseMs: z.number().int().default(20_000),
  /** How long use is kept interval by interval, and the audit log row by row. 0: for ever. */
  retention: z
    .object({ usageDays: z.number().min(0).default(400), auditDays: z.number().min(0).default(400) })
    .prefault({}),
});
export const SchedulerSecrets = CommonSecrets.extend({ databaseUrl: z.string(), sealingKey: z.string() });

export const NodeAgentConfig = Common.extend({
  nodeId: NodeId,
  stateDir: z.string(),
  listen: z.object({ host: z.string(), port: z.number().int() }),
  /** How the gateway reaches `listen`. */
  url: z.string(),
  driver: z.discriminatedUnion('kind', [
    z.object({
      kind: z.literal('gvisor'),
      hostdSocket: z.string(),
      /** Six hex digits: hash of installation and node id; hostd's `--scope`. */
      scope: z.string().regex(/^[0-9a-f]{6}$/),
      /** The /16 of this node's instances. */
      subnet: Subnet,
      guestPort: z.number().int(),
      pool: z.object({ sizeMib: z.number().int(), reserveMib: z.number().int() }),
      egress: z.object({
        allow: z.array(z.object({ host: z.string(), port: z.number().int() })),
        bandwidthMbit: z.number(),
        connections: z.number().int(),
      }),
      dnsPort: z.number().int(),
      templates: z.array(
        z.object({
          name: z.string(),
          aliases: z.array(z.string()),
          /** Overlay lower directories, the topmost first. */
          lower: z.array(z.string()).min(1),
          workdir: z.string(),
          user: z.string(),
          env: z.record(z.string(), z.string()),
        }),
      ),
    }),
    z.object({ kind: z.literal('fake') }),
  ]),
  isolation: Isolation,
  pools: z.array(z.object({ template: z.string(), shape: Shape, size: z.number().int().min(0) })),
  /** Share of one core that refilling pools may use, 0 to 1. */
  refillCpuShare: z.number().min(0).max(1).default(0.5),
  /** How long a sandbox sleeps in RAM before its memory is paged out to swap, ms; 0: only when the host is short of memory, or somebody asks. */
  leanAfterMs: z.number().int().min(0).default(300_000),
  /** Where the host swaps to. */
  swap: z.object({ kind: SwapKind.default('auto'), sizeMib: z.number().int().min(16).optional() }).prefault({}),
  /** How long a sandbox sleeps in RAM before its memory goes to the disk, ms; 0: never. */
  storeAfterMs: z.number().int().min(0).default(3_600_000),
  /**
   * Memory of the host, MiB. `keptMib`: below it nothing is created or woken from disk; wakes wait for their turn, or are refused with 503. `headroomMib`: so much more
   * is held free for wakes, by storing sleepers before their time; default a twelfth of the rest.
   */
  memory: z.object({ keptMib: z.number().min(0).default(768), headroomMib: z.number().min(0).optional() }).prefault({}),
  /**
   * What sleeping is reckoned to cost, per hour: a GiB of RAM, a GiB of disk, a core at work; in any currency. Wake budgets choose by it, and
   * `torpor sandbox get` shows it. The defaults are of the order of public list prices.
   */
  prices: z
    .object({
      ramGibHour: z.number().min(0).default(0.005),
      diskGibHour: z.number().min(0).default(0.00011),
      cpuHour: z.number().min(0).default(0.04),
    })
    .prefault({}),
  /**
   * Which snapshots of one sandbox go by themselves, and their bytes on disk. `automatic` ones are those that nobody asked for: of what a fork was made from,
   * and what a restore replaced. Absent: no such limit.
   */
  snapshots: z
    .object({
      automaticMax: z.number().int().min(1).default(3),
      automaticMs: z.number().int().min(60_000).optional(),
      askedMax: z.number().int().min(1).optional(),
      askedMs: z.number().int().min(60_000).optional(),
      askedBytes: z.number().int().min(1).optional(),
      /** Of what it slept in, beyond what it needs to wake. */
      storesMax: z.number().int().min(0).max(100).optional(),
    })
    .prefault({}),
});
export const NodeAgentSecrets = CommonSecrets.extend({ dataKey: z.string() });

export type GatewayConfig = z.infer<typeof GatewayConfig>;
export type GatewaySecrets = z.infer<typeof GatewaySecrets>;
export type SchedulerConfig = z.infer<typeof SchedulerConfig>;
export type SchedulerSecrets = z.infer<typeof SchedulerSecrets>;
export type NodeAgentConfig = z.infer<typeof NodeAgentConfig>;
export type NodeAgentSecrets = z.infer<typeof NodeAgentSecrets>;

/** So many instances kept ready for a create without sizes. */
export function defaultPools(size: number): NodeAgentConfig['pools'] {
  return [{ template: 'base', shape: DEFAULT_SHAPE, size }];
}
