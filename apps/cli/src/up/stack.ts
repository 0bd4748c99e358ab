/** The services of a stack on one box, as data: what each runs, as whom, after what, and how one knows that it works. */
import { join } from 'node:path';
import { PAYLOAD_BYTES_MAX, roomPermissions } from '@torpor/bus';
import { defaultPools } from '@torpor/config';
import type {
  GatewayConfig,
  GatewaySecrets,
  NodeAgentConfig,
  NodeAgentSecrets,
  SchedulerConfig,
  SchedulerSecrets,
} from '@torpor/config';
import { hostAndPort } from '@torpor/kernel';
import type { z } from 'zod';
import type { Toolchain } from '../setup/setup.ts';
import type { Account } from './accounts.ts';
import { hostdSaysHello, natsGreets, postgresTakesClients, roomIsWell } from './answers.ts';
import type { Installation } from './installation.ts';
import type { Keys } from './keys.ts';
import { layersIn } from './layers.ts';
import type { Layout } from './layout.ts';
import { nodesOf, type StackNode } from './nodes.ts';
import type { Places } from './places.ts';
import { postgresBinary } from './postgres.ts';
import { writeReadable } from './readable-file.ts';
import type { Service } from './service.ts';
import { poolSizeMib, type Settings } from './settings.ts';

const GUEST_PORT = 7070;
const VERSION = '0.1.0';

export interface Stack {
  readonly installation: Installation;
  readonly toolchain: Toolchain;
  readonly places: Places;
  readonly keys: Keys;
  readonly layout: Layout;
  readonly settings: Settings;
}

type Addressed = Pick<Stack, 'settings' | 'places'>;

export function publicUrlOf(stack: Addressed): string {
  return stack.settings.publicUrl ?? localUrlOf(stack);
}

/** How the gateway is reached from this machine. */
export function localUrlOf({ settings, places }: Addressed): string {
  const host = settings.listen === '0.0.0.0' || settings.listen === '::' ? '127.0.0.1' : settings.listen;
  return `http://${host.includes(':') ? `[${host}]` : host}:${places.ports.gateway}`;
}

/** Everybody's is the operator's own, where there is one. */
function databaseUrlOf({ settings, places, keys }: Stack, role: keyof Keys['database']): string {
  const own = `postgres://torpor_${role}:${keys.database[role]}@127.0.0.1:${places.ports.postgres}/postgres`;
  return settings.databaseUrl ?? own;
}

/** Every service of the stack; those that the operator provides (DATABASE_URL, NATS_URL) are left out. */
export async function servicesOf(stack: Stack): Promise<Service[]> {
  const services: Service[] = [];
  if (!stack.settings.natsUrl) services.push(await natsService(stack));
  if (!stack.settings.databaseUrl) services.push(postgresService(stack));
  const nodes = nodesOf(stack.installation, stack.places);
  services.push(...(await Promise.all(nodes.map((node) => hostdService(stack, node)))));
  const base = services.map(({ name }) => name);
  services.push(
    await schedulerService(stack, base),
    ...(await Promise.all(nodes.map((node) => nodeAgentService(stack, node, base)))),
    await gatewayService(stack, base),
  );
  return services;
}

async function natsService({ installation, layout, places, keys, toolchain }: Stack): Promise<Service> {
  // A restore plays a node of its own.
  const nodes = [...nodesOf(installation, places), { id: 'backup' }].map(({ id }) => ({
    user: `node-${id}`,
    password: keys.nats.node,
    ...roomPermissions('node', `node-${id}`, id),
  }));
  const users = [
    { user: 'gateway', password: keys.nats.gateway, ...roomPermissions('gateway', 'gateway') },
    { user: 'scheduler', password: keys.nats.scheduler, ...roomPermissions('scheduler', 'scheduler') },
    ...nodes,
  ].map(({ publish, subscribe, ...user }) => ({ ...user, permissions: { publish, subscribe, allow_responses: true } }));
  const config = {
    host: '127.0.0.1',
    port: places.ports.nats,
    jetstream: { store_dir: layout.natsDir, max_memory_store: 256 << 20, max_file_store: 1 << 30 },
    max_payload: PAYLOAD_BYTES_MAX,
    authorization: { users },
  };
  const file = await writeJson(layout, 'nats.json', config, layout.accounts.nats);
  return {
    name: 'nats',
    command: toolchain.natsServer,
    args: ['-c', file],
    user: layout.accounts.nats,
    needs: [],
    isHealthy: () => natsGreets(places.ports.nats),
    stop: { graceMs: 3_000 },
    startMs: 10_000,
  };
}

function postgresService({ layout, places, installation, toolchain }: Stack): Service {
  return {
    name: 'postgres',
    command: postgresBinary(toolchain.roomsDir, 'postgres'),
    args: [
      ...['-D', join(layout.postgresDir, 'data')],
      ...['-c', 'listen_addresses=127.0.0.1', '-c', `port=${places.ports.postgres}`, '-c', 'unix_socket_directories='],
      ...['-c', 'max_connections=60', '-c', 'shared_buffers=64MB', '-c', `cluster_name=torpor-${installation.id}`],
    ],
    env: { LC_ALL: 'C.UTF-8', TZ: 'UTC' },
    user: layout.accounts.postgres,
    needs: [],
    isHealthy: () => postgresTakesClients(places.ports.postgres),
    // Fast shutdown: it does not wait for clients, and writes everything down.
    stop: { signal: 'SIGINT', graceMs: 15_000 },
    startMs: 30_000,
  };
}

async function hostdService(
  { layout, toolchain }: Stack,
  { scope, suffix, poolFile, poolDir }: StackNode,
): Promise<Service> {
  return {
    name: `hostd${suffix}`,
    command: toolchain.hostd,
    args: [
      ...['--scope', scope, '--run-dir', hostdRunDir(scope), '--socket', hostdSocket(scope)],
      ...['--pool-file', poolFile, '--pool-dir', poolDir, '--runsc', toolchain.runsc],
      ...['--allow-uid', String(layout.accounts.node.uid), '--gid', String(layout.accounts.node.gid)],
      ...(await layersIn(toolchain.cacheDir)).flatMap((layer) => ['--layers', layer]),
    ],
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...failpoints() },
    needs: [],
    isHealthy: () => hostdSaysHello(hostdSocket(scope)),
    stop: { graceMs: 10_000 },
    startMs: 10_000,
  };
}

/** A new instance's read-only layers, top first. */
function lowerOf(toolchain: Toolchain, template: { readonly dir: string }): string[] {
  return [toolchain.guestLayerDir, toolchain.hostLayerDir, template.dir];
}

export function hostdRunDir(scope: string): string {
  return `/run/torpor/${scope}`;
}

export function hostdSocket(scope: string): string {
  return join(hostdRunDir(scope), 'hostd.sock');
}

async function schedulerService(stack: Stack, needs: readonly string[]): Promise<Service> {
  const { keys, places } = stack;
  const config: z.input<typeof SchedulerConfig> = {
    ...common(stack, 'scheduler', places.ports.observeScheduler),
    database: {},
    leaseMs: 0,
  };
  const secrets: SchedulerSecrets = {
    ...natsSecret(stack, keys.nats.scheduler),
    databaseUrl: databaseUrlOf(stack, 'scheduler'),
    sealingKey: keys.sealingKey,
  };
  return room(stack, 'scheduler', { config, secrets, observePort: places.ports.observeScheduler }, needs);
}

async function gatewayService(stack: Stack, needs: readonly string[]): Promise<Service> {
  const { config, secrets } = gatewayFiles(stack);
  return room(stack, 'gateway', { config, secrets, observePort: stack.places.ports.observeGateway }, needs);
}

function gatewayFiles(stack: Stack): { config: z.input<typeof GatewayConfig>; secrets: GatewaySecrets } {
  const { keys, places, settings } = stack;
  return {
    config: {
      ...common(stack, 'gateway', places.ports.observeGateway),
      database: {},
      listen: { host: settings.listen, port: places.ports.gateway },
      publicUrl: publicUrlOf(stack),
    },
    secrets: {
      ...natsSecret(stack, keys.nats.gateway),
      databaseUrl: databaseUrlOf(stack, 'gateway'),
      dataKey: keys.dataKey,
      sealingKey: keys.sealingKey,
    },
  };
}

/**
 * As whom the database is brought to this version's shape, and with which files: the owner's password is for an account that has the database's own files
 * anyhow, and for no room. It seals nothing and speaks to nobody, so it is given none of the gateway's other secrets, nor sources that a room compiled.
 */
export async function bootstrapPlace(stack: Stack): Promise<{ user: Account; env: Record<string, string> }> {
  const { layout } = stack;
  const user = layout.accounts.postgres;
  const secrets: GatewaySecrets = {
    natsPassword: '',
    dataKey: '',
    sealingKey: Buffer.alloc(32).toString('base64'),
    databaseUrl: databaseUrlOf(stack, 'owner'),
  };
  const { config } = gatewayFiles(stack);
  const env = {
    TORPOR_CONFIG: await writeJson(layout, 'bootstrap.json', config, user),
    TORPOR_SECRETS: await writeJson(layout, 'bootstrap.secrets.json', secrets, user),
    PATH: '/usr/bin:/bin',
  };
  return { user, env };
}

async function nodeAgentService(stack: Stack, node: StackNode, needs: readonly string[]): Promise<Service> {
  const { installation, toolchain, settings, keys } = stack;
  const { id, scope, suffix, stateDir, ports, subnet } = node;
  const sizeMib = await poolSizeMib(installation.stateDir, settings.diskGib);
  const config: z.input<typeof NodeAgentConfig> = {
    ...common(stack, `node-${id}`, ports.observe),
    nodeId: id,
    stateDir,
    listen: { host: '127.0.0.1', port: ports.data },
    url: `http://127.0.0.1:${ports.data}`,
    isolation: 'gvisor',
    driver: {
      kind: 'gvisor',
      hostdSocket: hostdSocket(scope),
      scope,
      subnet,
      guestPort: GUEST_PORT,
      pool: { sizeMib, reserveMib: Math.ceil(sizeMib / 20) },
      egress: {
        allow: toolchain.host.registries.map((text) => hostAndPort(text, 443)),
        bandwidthMbit: 1_000,
        connections: 1_024,
      },
      dnsPort: ports.dns,
      templates: Object.values(toolchain.templates).map((template) => ({
        name: template.name,
        aliases: [...template.aliases],
        lower: lowerOf(toolchain, template),
        workdir: template.workdir,
        user: template.user,
        env: { ...template.env, ...toolchain.host.env },
      })),
    },
    pools: defaultPools(settings.pool),
    ...(settings.memoryKeptMib === undefined ? {} : { memory: { keptMib: settings.memoryKeptMib } }),
    ...(settings.prices ? { prices: settings.prices } : {}),
    swap: { kind: settings.swap, sizeMib: settings.swapMib },
    leanAfterMs: settings.leanAfterMs,
  };
  const secrets: NodeAgentSecrets = { ...natsSecret(stack, keys.nats.node), dataKey: keys.dataKey };
  const service = await room(stack, 'node', { config, secrets, suffix, observePort: ports.observe }, needs);
  return { ...service, restSignal: 'SIGUSR2' };
}

function common(stack: Stack, user: string, observePort: number) {
  const otlpEndpoint = process.env.OTEL_EXPORTER_OTLP_ENDPOINT;
  const given = stack.settings.natsUrl === undefined ? undefined : new URL(stack.settings.natsUrl);
  return {
    installation: stack.installation.id,
    version: VERSION,
    nats: given
      ? { url: given.host, user: decodeURIComponent(given.username) }
      : { url: `127.0.0.1:${stack.places.ports.nats}`, user },
    ...(otlpEndpoint === undefined ? {} : { otlpEndpoint }),
    observe: { host: '127.0.0.1', port: observePort },
  };
}

function natsSecret(stack: Stack, own: string): { natsPassword: string } {
  return {
    natsPassword:
      stack.settings.natsUrl === undefined ? own : decodeURIComponent(new URL(stack.settings.natsUrl).password),
  };
}

type Room = keyof Layout['compileCacheDirs'];

async function room(
  stack: Stack,
  of: Room,
  {
    config,
    secrets,
    observePort,
    suffix = '',
  }: { config: unknown; secrets: unknown; observePort: number; suffix?: string },
  needs: readonly string[],
): Promise<Service> {
  const { layout, toolchain } = stack;
  const app = { gateway: 'gateway', scheduler: 'sandbox-scheduler', node: 'node-agent' }[of];
  const name = `${app}${suffix}`;
  return {
    name,
    command: toolchain.node,
    args: ['--disable-warning=ExperimentalWarning', join(toolchain.roomsDir, 'apps', app, 'src', 'main.ts')],
    env: await roomEnv(stack, of, { name, config, secrets }),
    user: layout.accounts[of],
    needs,
    isHealthy: () => roomIsWell(observePort),
    stop: { graceMs: 20_000 },
    startMs: 60_000,
  };
}

/** Writes a room's two files and answers the environment that leads to them. */
async function roomEnv(
  { layout }: Stack,
  of: Room,
  { name, config, secrets }: { name: string; config: unknown; secrets: unknown },
): Promise<Record<string, string>> {
  const reader = layout.accounts[of];
  return {
    TORPOR_CONFIG: await writeJson(layout, `${name}.json`, config, reader),
    TORPOR_SECRETS: await writeJson(layout, `${name}.secrets.json`, secrets, reader),
    NODE_COMPILE_CACHE: layout.compileCacheDirs[of],
    PATH: '/usr/bin:/bin',
    ...failpoints(),
  };
}

/** Tests ask for failures by this variable; it reaches the processes that carry steps out. */
function failpoints(): Record<string, string> {
  return process.env.TORPOR_FAILPOINTS ? { TORPOR_FAILPOINTS: process.env.TORPOR_FAILPOINTS } : {};
}

function writeJson(layout: Layout, name: string, body: unknown, reader: Account): Promise<string> {
  return writeReadable(layout, name, `${JSON.stringify(body, null, 2)}\n`, reader);
}
