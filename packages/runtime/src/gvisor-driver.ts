/**
 * Instances in gVisor, by way of hostd. Each step is one verb of hostd, and the last waits for the guest. The driver remembers nothing: what is, is
 * asked of the host each time.
 */
import type { InstanceId } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { createHash } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { hostAddress, instanceAddress } from './addresses.ts';
import { guestAnswers } from './guest-health.ts';
import { tcpGuest } from './guest-tcp.ts';
import { hostdClient, type HostdClient } from './hostd-client.ts';
import type { EgressRule, JournaledVerb, VerbArgs, VerbResult } from './hostd-verbs.ts';
import type {
  Death,
  InstanceDriver,
  InstanceFacts,
  InstanceHandle,
  InstanceSpec,
  InstanceUsage,
  Step,
} from './port.ts';
import { assertCovered } from './steps.ts';

export interface GvisorTemplate {
  readonly name: string;
  readonly aliases: readonly string[];
  /** Overlay lower directories, the topmost first; one of them holds `/torpor/guest`. What is in one never changes: a new make has a new path. */
  readonly lower: readonly string[];
}

export interface GvisorSettings {
  readonly hostdSocket: string;
  readonly scope: string;
  readonly subnet: string;
  readonly guestPort: number;
  readonly pool: { readonly sizeMib: number; readonly reserveMib: number };
  readonly egress: {
    readonly allow: readonly { readonly host: string; readonly port: number }[];
    readonly bandwidthMbit: number;
    readonly connections: number;
  };
  readonly dnsPort: number;
  /** Ports of the host, besides DNS, that instances may reach: the node-agent's own listener. */
  readonly hostPorts: readonly number[];
  readonly templates: readonly GvisorTemplate[];
  /** The span that a verb is asked in, if it is asked in one. */
  readonly traceparent?: () => string | undefined;
  /** Told of each host of `egress.allow` that has no address; nothing is opened for it. */
  readonly onUnresolved?: (host: string, error: unknown) => void;
}

const NODE_MS = 120_000;
const MAKE_MS = 30_000;
const REMOVE_MS = 30_000;
const REST_MS = 10_000;
const LOOK_MS = 10_000;
const HEALTH_MS = 20_000;
const OPEN_FILES_MAX = 65_536;

export function gvisorDriver(settings: GvisorSettings, hostd: HostdClient = openHostd(settings)): InstanceDriver {
  const templates = new Map<string, GvisorTemplate>();
  for (const template of settings.templates) {
    for (const name of [template.name, ...template.aliases]) templates.set(name, template);
  }
  let build: string | undefined;

  function createSteps(spec: InstanceSpec): readonly Step[] {
    const { instanceId: id, slot, shape, bootToken } = spec;
    const template = templates.get(spec.template);
    if (!template) throw new Failure('not_found', `this node has no template "${spec.template}"`);
    const { lower } = template;
    const limits = { memoryMib: shape.memoryMib, cpus: shape.cpus, pids: shape.pids, nofile: OPEN_FILES_MAX };
    const nameserver = hostAddress(settings.subnet, slot);
    const argv = ['/torpor/guest', '--listen', `0.0.0.0:${settings.guestPort}`, '--nameserver', nameserver];
    const env = [`PATH=${PATH}`, `TORPOR_BOOT_TOKEN=${bootToken}`];
    const sandbox = { id, slot, lower, hostname: id, limits, argv, env, volumeDir: true };
    return [
      verb('disk.create', [], { id, diskMib: shape.diskMib }, MAKE_MS),
      verb('net.create', [], { id, slot }, MAKE_MS),
      verb('sandbox.create', ['disk.create', 'net.create'], sandbox, MAKE_MS),
      verb('sandbox.start', ['sandbox.create'], { id }, MAKE_MS),
      {
        name: 'guest.health',
        after: ['sandbox.start'],
        async run(intent) {
          assertCovered(intent, 'guest.health', id);
          const { host, port } = handle(spec);
          await guestAnswers({
            host,
            port,
            token: bootToken,
            deadlineMs: HEALTH_MS,
            isAlive: async () => (await inspect(id)).state !== 'absent',
          });
        },
      },
    ];
  }

  function destroySteps({ instanceId: id, slot }: { instanceId: InstanceId; slot: number }): readonly Step[] {
    return [
      verb('sandbox.delete', [], { id }, REMOVE_MS),
      verb('net.delete', ['sandbox.delete'], { id, slot }, REMOVE_MS),
      verb('disk.delete', ['sandbox.delete'], { id }, REMOVE_MS),
    ];
  }

  function verb<V extends JournaledVerb>(
    name: V,
    after: readonly string[],
    args: VerbArgs[V],
    deadlineMs: number,
  ): Step {
    return {
      name,
      after,
      async run(intent) {
        await hostd.change(intent, name, args, deadlineMs);
      },
    };
  }

  function handle({ instanceId, slot }: { instanceId: InstanceId; slot: number }): InstanceHandle {
    return { instanceId, slot, host: instanceAddress(settings.subnet, slot), port: settings.guestPort };
  }

  async function inspect(id: InstanceId): Promise<InstanceFacts> {
    return factsOf(await hostd.ask('sandbox.state', { id }, LOOK_MS));
  }

  async function rest(name: 'sandbox.pause' | 'sandbox.resume', id: InstanceId): Promise<{ tookMs: number }> {
    const beforeMs = performance.now();
    await hostd.ask(name, { id }, REST_MS);
    return { tookMs: performance.now() - beforeMs };
  }

  return {
    name: 'gvisor',
    isolation: 'gvisor',
    templates: [...templates.keys()],
    get build() {
      if (build === undefined) throw new Error('the host was asked nothing yet: prepare it first');
      return build;
    },
    async prepare() {
      build = buildOf((await hostd.ask('hello', { protocol: 1 }, LOOK_MS)).runsc, settings.templates);
      const { pool, subnet, dnsPort, hostPorts, egress } = settings;
      const allow = await openings(settings);
      const limits = { bandwidthMbit: egress.bandwidthMbit, connections: egress.connections };
      const dns = { listenPort: dnsPort };
      await hostd.ask(
        'node.prepare',
        { pool, subnet, hostPorts: { guestToHost: hostPorts }, dns, egress: { allow }, limits },
        NODE_MS,
      );
    },
    createSteps,
    destroySteps,
    handle,
    pause: (id) => rest('sandbox.pause', id),
    resume: (id) => rest('sandbox.resume', id),
    inspect,
    async usage(ids) {
      const [stats, disks] = await Promise.all([
        hostd.ask('sandbox.stats', { ids }, LOOK_MS),
        hostd.ask('disk.stats', { ids }, LOOK_MS),
      ]);
      return new Map(ids.flatMap((id) => (stats[id] ? [[id, usageOf(stats[id], disks[id])] as const] : [])));
    },
    async inventory() {
      const found = await hostd.ask('inventory', {}, LOOK_MS);
      const ids = [...found.sandboxes, ...found.bundles, ...found.mounts, ...found.cgroups, ...found.disks];
      const slots = [...found.netns, ...found.veths, ...found.netElements];
      return { instanceIds: [...new Set(ids)] as InstanceId[], slots: [...new Set(slots)] }; // hostd only knows ids that we gave it
    },
    async capacity() {
      const { memory, pool } = await hostd.ask('node.usage', {}, LOOK_MS);
      const diskMib = Math.max(0, pool.totalMib - pool.reserveMib);
      const diskFreeMib = Math.max(0, pool.freeMib - pool.reserveMib);
      return { memoryMib: memory.totalMib, memoryFreeMib: memory.availableMib, diskMib, diskFreeMib };
    },
    guest: (at, token) => tcpGuest(at, token),
    close: () => hostd.close(),
  };
}

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

function openHostd(settings: GvisorSettings): HostdClient {
  const { hostdSocket, scope, traceparent } = settings;
  return hostdClient({ socket: hostdSocket, scope, ...(traceparent ? { traceparent } : {}) });
}

/** The path counts besides the version, which knows of no patch: like a layer's, it is another for another make. */
function buildOf(runsc: VerbResult<'hello'>['runsc'], templates: readonly GvisorTemplate[]): string {
  const parts = [runsc.path, runsc.version, templates.map(({ name, lower }) => [name, lower])];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
}

/** A sandbox that is only half asleep answers nothing either, and is resumed the same way: it counts as frozen. */
function factsOf(state: VerbResult<'sandbox.state'>): InstanceFacts {
  const { pid, startTicks, memoryMib, cpuUsageNs, oomKills, death } = state;
  if (!state.exists || state.runsc === 'stopped' || state.runsc === 'absent') {
    return {
      state: 'absent',
      ...(oomKills === undefined ? {} : { oomKills }),
      ...(death === undefined ? {} : { death: deathOf(death) }),
    };
  }
  const asleep = state.frozen || state.runsc === 'paused';
  return {
    state: asleep ? 'frozen' : state.runsc === 'created' ? 'starting' : 'running',
    ...(pid === undefined ? {} : { pid }),
    ...(startTicks === undefined ? {} : { startTicks }),
    ...(memoryMib === undefined ? {} : { memoryMib }),
    ...(cpuUsageNs === undefined ? {} : { cpuUsageNs }),
    ...(oomKills === undefined ? {} : { oomKills }),
  };
}

function usageOf(
  used: VerbResult<'sandbox.stats'>[string],
  disk: VerbResult<'disk.stats'>[string] | undefined,
): InstanceUsage {
  return disk ? { ...used, diskMib: disk.usedMib } : used;
}

function deathOf({ cause, exitCode, signal, said }: NonNullable<VerbResult<'sandbox.state'>['death']>): Death {
  return {
    cause,
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(signal === undefined ? {} : { signal }),
    ...(said === undefined ? {} : { said }),
  };
}

/**
 * The operator's allowed hosts as addresses. Instances have no IPv6, so only IPv4 ones are opened. A name that cannot be found opens nothing and is
 * told: one wrong or unreachable index must not keep the whole node down.
 */
async function openings({ egress, onUnresolved }: GvisorSettings): Promise<EgressRule[]> {
  const found = await Promise.all(
    egress.allow.map(async ({ host, port }): Promise<EgressRule[]> => {
      try {
        const addresses = await lookup(host, { family: 4, all: true });
        return addresses.map(({ address }) => ({ ip: address, port, proto: 'tcp' }));
      } catch (error) {
        onUnresolved?.(host, error);
        return [];
      }
    }),
  );
  return found.flat();
}
