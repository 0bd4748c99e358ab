/**
 * Instances in gVisor, by way of hostd. Each step is one verb of hostd, and the last waits for the guest. The driver remembers nothing: what is, is
 * asked of the host each time.
 */
import type { InstanceId, Make, VolumeId } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { createHash } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { hostAddress, instanceAddress } from './addresses.ts';
import { guestAnswers } from './guest-health.ts';
import { tcpGuest } from './guest-tcp.ts';
import { hostdClient, type HostdClient } from './hostd-client.ts';
import type { EgressRule, JournaledVerb, MadeOf, VerbArgs, VerbResult } from './hostd-verbs.ts';
import type {
  BootDisk,
  Death,
  InstanceDriver,
  InstanceFacts,
  InstanceHandle,
  InstanceSpec,
  InstanceUsage,
  Intent,
  KeptVolume,
  PackSpec,
  PlacedVolume,
  RestoreSpec,
  Step,
  StoreFacts,
  StoreSpec,
  UnpackSpec,
} from './port.ts';
import { parcelDirectories, type Parcel } from './parcels.ts';
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
  /** Made where the host has none of its own: the first of these that it can do. Empty: none. */
  readonly swap: { readonly kinds: readonly ('crypt' | 'zram' | 'file')[]; readonly sizeMib: number };
  readonly dnsPort: number;
  /** Ports of the host, besides DNS, that instances may reach: the node-agent's own listener. */
  readonly hostPorts: readonly number[];
  readonly templates: readonly GvisorTemplate[];
  /** The span that a verb is asked in, if it is asked in one. */
  readonly traceparent?: () => string | undefined;
  /** Told of each host of `egress.allow` that has no address; nothing is opened for it. */
  readonly onUnresolved?: (host: string, error: unknown) => void;
  /** Told of each kind of swap that this host cannot do. */
  readonly onSwapTrouble?: (reason: string) => void;
}

const NODE_MS = 120_000;
const MAKE_MS = 30_000;
const REMOVE_MS = 30_000;
const REST_MS = 10_000;
const LOOK_MS = 10_000;
const MIB = 2 ** 20;
const HEALTH_MS = 20_000;
/** Memory is written and read at the speed of the disk. */
const IMAGE_MS = 120_000;
/** A disk is read, compressed, written and read back. */
const PARCEL_MS = 900_000;
const OPEN_FILES_MAX = 65_536;

export function gvisorDriver(settings: GvisorSettings, hostd: HostdClient = openHostd(settings)): InstanceDriver {
  const templates = new Map<string, GvisorTemplate>();
  for (const template of settings.templates) {
    for (const name of [template.name, ...template.aliases]) templates.set(name, template);
  }
  let build: string | undefined;
  let make: Make | undefined;
  const parcelPaths = new Map<string, string>();

  function createSteps(spec: InstanceSpec): readonly Step[] {
    const { instanceId: id, slot, shape, bootToken } = spec;
    return [
      verb('disk.create', [], { id, diskMib: shape.diskMib }, MAKE_MS),
      verb('net.create', [], { id, slot }, MAKE_MS),
      verb('sandbox.create', ['disk.create', 'net.create'], sandboxOf(spec), MAKE_MS),
      verb('sandbox.start', ['sandbox.create'], { id }, MAKE_MS),
      health(spec, bootToken, 'sandbox.start'),
    ];
  }

  function sandboxOf(spec: InstanceSpec): VerbArgs['sandbox.create'] {
    const { shape } = spec;
    const template = templates.get(spec.template);
    if (!template) throw new Failure('not_found', `this node has no template "${spec.template}"`);
    const { lower } = template;
    const limits = { memoryMib: shape.memoryMib, cpus: shape.cpus, pids: shape.pids, nofile: OPEN_FILES_MAX };
    // The same for all: an image is restored only under the argv that it was made with, and in a fork slot and token are others.
    const argv = ['/torpor/guest', '--listen', `0.0.0.0:${settings.guestPort}`];
    return { ...placeOf(spec), lower, limits, argv, volumeDir: true };
  }

  /** What is the instance's own, and may differ between a sandbox and one restored from its image. */
  function placeOf({ instanceId: id, slot, bootToken }: InstanceSpec) {
    const nameserver = hostAddress(settings.subnet, slot);
    const env = [`PATH=${PATH}`, `TORPOR_BOOT_TOKEN=${bootToken}`, `TORPOR_NAMESERVER=${nameserver}`];
    return { id, slot, hostname: id, env };
  }

  function health(spec: InstanceSpec, token: string, after: string): Step {
    const { instanceId: id } = spec;
    return {
      name: 'guest.health',
      after: [after],
      async run(intent) {
        assertCovered(intent, 'guest.health', id);
        const { host, port } = handle(spec);
        await guestAnswers({
          host,
          port,
          token,
          deadlineMs: HEALTH_MS,
          isAlive: async () => (await inspect(id)).state !== 'absent',
        });
      },
    };
  }

  function bootSteps(spec: InstanceSpec, { from, volumes = [] }: BootDisk = {}): readonly Step[] {
    const { instanceId: id } = spec;
    const gone = verb('sandbox.delete', [], { id }, REMOVE_MS);
    const before = [gone, ...(from ? bootDisk(id, from, volumes) : [])];
    const ready = [...before, ...attached(id, volumes, before.at(-1)?.name ?? gone.name)];
    const after = ready.slice(-1).map(({ name }) => name);
    return [...ready, ...createSteps(spec).map((step) => (step.after.length > 0 ? step : { ...step, after }))];
  }

  function bootDisk(
    id: InstanceId,
    { name: image, isThere, keep }: NonNullable<BootDisk['from']>,
    volumes: readonly KeptVolume[],
  ): Step[] {
    const kept = keep === undefined ? {} : { keep };
    const disk = verb('disk.restore', ['sandbox.delete'], { id, image, ...kept }, MAKE_MS);
    const back = [disk, ...volumesBack(volumes, image, disk.name)];
    if (isThere === 'surely') return back;
    return back.map((step) => ({ ...step, run: (intent) => step.run(intent).catch(passNotFound) }));
  }

  /** One after another: the host takes back what is attached when the disk is replaced, so they follow that. */
  function volumesBack(volumes: readonly KeptVolume[], image: string, after: string): Step[] {
    const held = volumes.flatMap(({ of: from, ...one }) => (from === undefined ? [] : [{ ...one, from }]));
    const fresh = held.flatMap(({ newMib, ...one }) => (newMib === undefined ? [] : [{ ...one, sizeMib: newMib }]));
    const there = held.filter(({ newMib }) => newMib === undefined);
    return [
      ...each('volume.create', [after], fresh, ({ volume, sizeMib, from }) => ({ volume, sizeMib, from, image })),
      ...each('volume.restore', [after], there, ({ volume, from }) => ({ volume, image, from })),
    ];
  }

  function attached(id: InstanceId, volumes: readonly PlacedVolume[], ...after: string[]): Step[] {
    return each('volume.attach', after, volumes, ({ volume, name }) => ({ id, volume, name }));
  }

  /** The same verb for each of several; no step where there are none. */
  function each<V extends JournaledVerb, T>(
    name: V,
    after: readonly string[],
    all: readonly T[],
    args: (one: T) => VerbArgs[V],
  ): Step[] {
    if (all.length === 0) return [];
    const run = async (intent: Intent) => {
      for (const one of all) await hostd.change(intent, name, args(one), MAKE_MS);
    };
    return [{ name, after, run }];
  }

  function storeSteps(spec: StoreSpec, told: (facts: Partial<StoreFacts>) => void): readonly Step[] {
    const { instanceId: id, image, volumes = [] } = spec;
    const key = base64(spec.key);
    let saved: VerbResult<'image.save'> | undefined;
    const snapshot = async (intent: Intent) => {
      const kept = await hostd.change(intent, 'disk.snapshot', { id, image }, MAKE_MS);
      assertSame(kept.volumes, volumes);
    };
    const save = async (intent: Intent) => {
      saved = await hostd.change(intent, 'image.save', { id, image, key, compress: 'auto' }, IMAGE_MS);
      told(saved);
    };
    const seal = async (intent: Intent) => {
      if (saved === undefined) throw new Error('an image is sealed before it was saved');
      const { digest, madeOf } = saved;
      const manifest = { ...spec.manifest, digest, ...(madeOf ? { madeOf } : {}) };
      told(await hostd.change(intent, 'image.seal', { image, manifest }, IMAGE_MS));
    };
    return [
      { name: 'image.save', after: [], run: save },
      { name: 'disk.snapshot', after: ['image.save'], run: snapshot },
      { name: 'image.seal', after: ['disk.snapshot'], run: seal },
      {
        name: 'image.verify',
        after: ['image.seal'],
        async run(intent) {
          assertCovered(intent, 'image.verify', id);
          told(await hostd.ask('image.verify', { image, key }, IMAGE_MS));
        },
      },
    ];
  }

  function restoreSteps(spec: RestoreSpec): readonly Step[] {
    const { instanceId: id, slot, image, disk, token } = spec;
    const back = disk.kind === 'as-then' ? diskBack(spec, disk.keep) : [];
    const ready = ['net.create', ...back.map(({ name }) => name)];
    return [
      verb('sandbox.delete', [], { id }, REMOVE_MS),
      ...back,
      verb('net.create', ['sandbox.delete'], { id, slot }, MAKE_MS),
      { name: 'sandbox.create', after: ready, run: (intent) => makeShell(intent, spec) },
      verb('sandbox.restore', ['sandbox.create'], { id, image, key: base64(spec.key) }, IMAGE_MS),
      health(spec, token, 'sandbox.restore'),
    ];
  }

  function diskBack({ instanceId: id, image, volumes = [] }: RestoreSpec, keep: string | undefined): Step[] {
    const kept = keep === undefined ? {} : { keep };
    const disk = verb('disk.restore', ['sandbox.delete'], { id, image, ...kept }, MAKE_MS);
    const back = volumesBack(volumes, image, disk.name);
    return [disk, ...back, ...attached(id, volumes, disk.name, ...back.map(({ name }) => name))];
  }

  /** Of what its image wants, whatever this node makes new ones of by now: another guest's pages, or another gVisor, would not bear its memory. */
  async function makeShell(intent: Intent, spec: RestoreSpec): Promise<void> {
    const { madeOf } = (await hostd.ask('image.read', { image: spec.image }, LOOK_MS)).manifest;
    await hostd.change(intent, 'sandbox.create', madeOf ? shellOf(spec, madeOf) : sandboxOf(spec), MAKE_MS);
  }

  function shellOf(spec: RestoreSpec, madeOf: MadeOf): VerbArgs['sandbox.create'] {
    const { build, lower, argv, memoryMib, nofile, volumeDir } = madeOf;
    const { cpus, pids } = spec.shape;
    return { ...placeOf(spec), lower, argv, volumeDir, limits: { memoryMib, nofile, cpus, pids }, build };
  }

  function forgetSteps(spec: { instanceId: InstanceId; images: readonly string[] }): readonly Step[] {
    return spec.images.length > 0 ? [forget(spec.images, [])] : [];
  }

  function forget(images: readonly string[], after: readonly string[]): Step {
    return {
      name: 'image.delete',
      after,
      async run(intent) {
        for (const image of images) await hostd.change(intent, 'image.delete', { image }, REMOVE_MS);
      },
    };
  }

  function packSteps({ instanceId: id, images }: PackSpec, told: (parcel: Parcel) => void): readonly Step[] {
    return [
      {
        name: 'parcel.pack',
        after: [],
        async run(intent) {
          assertCovered(intent, 'parcel.pack', id);
          for (const { image, key, diskAlone = false } of images) {
            const args = { image, key: base64(key), ...(diskAlone ? { diskAlone } : {}) };
            const { path, ...contents } = await hostd.change(intent, 'parcel.pack', args, PARCEL_MS);
            parcelPaths.set(image, path);
            told({ image, ...contents });
          }
        },
      },
    ];
  }

  function unpackSteps({ instanceId: id, key, parcel, diskAlone = false }: UnpackSpec): readonly Step[] {
    const { image, diskDigest, diskMib, diskUsedMib } = parcel;
    return [
      {
        name: 'parcel.unpack',
        after: [],
        async run(intent) {
          assertCovered(intent, 'parcel.unpack', id);
          const size = { diskDigest, diskMib, diskUsedMib };
          const args = { image, key: base64(key), ...size, ...(diskAlone ? { diskAlone } : {}) };
          await hostd.change(intent, 'parcel.unpack', args, PARCEL_MS);
        },
      },
      ...unpackedSteps({ instanceId: id, images: [image] }).map((step) => ({ ...step, after: ['parcel.unpack'] })),
    ];
  }

  function unpackedSteps({ instanceId: id, images }: { instanceId: InstanceId; images: readonly string[] }): Step[] {
    return [
      {
        name: 'parcel.delete',
        after: [],
        async run(intent) {
          assertCovered(intent, 'parcel.delete', id);
          for (const image of images) {
            await hostd.change(intent, 'parcel.delete', { image }, REMOVE_MS);
            parcelPaths.delete(image);
          }
        },
      },
    ];
  }

  function destroySteps(instance: {
    instanceId: InstanceId;
    slot: number;
    images?: readonly string[];
  }): readonly Step[] {
    const { instanceId: id, slot, images = [] } = instance;
    return [
      verb('sandbox.delete', [], { id }, REMOVE_MS),
      verb('net.delete', ['sandbox.delete'], { id, slot }, REMOVE_MS),
      verb('disk.delete', ['sandbox.delete'], { id }, REMOVE_MS),
      ...(images.length > 0 ? [forget(images, ['sandbox.delete'])] : []),
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
    const { subnet, guestPort } = settings;
    return {
      instanceId,
      slot,
      host: instanceAddress(subnet, slot),
      port: guestPort,
      nameserver: hostAddress(subnet, slot),
    };
  }

  async function inspect(id: InstanceId): Promise<InstanceFacts> {
    return factsOf(await hostd.ask('sandbox.state', { id }, LOOK_MS));
  }

  async function rest(name: 'sandbox.pause' | 'sandbox.resume', id: InstanceId): Promise<{ tookMs: number }> {
    const beforeMs = performance.now();
    await hostd.ask(name, { id }, REST_MS);
    return { tookMs: performance.now() - beforeMs };
  }

  /** Whatever waits for the instance ends a page-out, and a look is the least that does. */
  async function lean(id: InstanceId, { budgetMs, giveWay }: { budgetMs: number; giveWay: AbortSignal }) {
    const nudge = () => void hostd.ask('sandbox.state', { id }, LOOK_MS).catch(() => {}); // nothing is to be learnt from it
    giveWay.addEventListener('abort', nudge, { once: true });
    try {
      const done = await hostd.ask('sandbox.lean', { id, budgetMs }, budgetMs + LOOK_MS);
      const { residentBytes, swappedBytes, gaveWay, tookUs } = done;
      return { tookMs: tookUs / 1_000, memoryMib: residentBytes / MIB, swapMib: swappedBytes / MIB, gaveWay };
    } finally {
      giveWay.removeEventListener('abort', nudge);
    }
  }

  return {
    name: 'gvisor',
    isolation: 'gvisor',
    templates: [...templates.keys()],
    get build() {
      if (build === undefined) throw new Error('the host was asked nothing yet: prepare it first');
      return build;
    },
    get make() {
      if (make === undefined) throw new Error('the host was asked nothing yet: prepare it first');
      return make;
    },
    async prepare() {
      const { runsc } = await hostd.ask('hello', { protocol: 1 }, LOOK_MS);
      build = buildOf(runsc, settings.templates);
      make = makeOf(runsc, settings.templates, await readFile('/proc/cpuinfo', 'utf8'));
      const { pool, subnet, dnsPort, hostPorts, egress, swap } = settings;
      const allow = await openings(settings);
      const limits = { bandwidthMbit: egress.bandwidthMbit, connections: egress.connections };
      const dns = { listenPort: dnsPort };
      const { swapTrouble } = await hostd.ask(
        'node.prepare',
        { pool, subnet, hostPorts: { guestToHost: hostPorts }, dns, egress: { allow }, swap, limits },
        NODE_MS,
      );
      for (const reason of swapTrouble) settings.onSwapTrouble?.(reason);
    },
    createSteps,
    destroySteps,
    bootSteps,
    storeSteps,
    releaseSteps: ({ instanceId: id }) => [verb('sandbox.delete', [], { id }, REMOVE_MS)],
    restoreSteps,
    forgetSteps,
    packSteps,
    unpackSteps,
    unpackedSteps,
    parcels: parcelDirectories({
      known: (image) => parcelPaths.get(image),
      async open(image, needMib) {
        const { path } = await hostd.ask('parcel.open', { image, needMib }, MAKE_MS);
        parcelPaths.set(image, path);
        return path;
      },
    }),
    volumeSteps: ({ volume, sizeMib, from }) => [
      verb('volume.create', [], { volume, sizeMib, ...(from === undefined ? {} : { from }) }, MAKE_MS),
    ],
    dropVolumeSteps: ({ volume }) => [verb('volume.delete', [], { volume }, REMOVE_MS)],
    attachSteps: ({ instanceId: id, volume, name }) => [verb('volume.attach', [], { id, volume, name }, MAKE_MS)],
    detachSteps: ({ instanceId: id, volume, name }) => [verb('volume.detach', [], { id, volume, name }, MAKE_MS)],
    async volumeUsage(all) {
      const volumes = all.map(({ volume, at }) => ({ volume, ...(at ? { id: at.instanceId, name: at.name } : {}) }));
      const found = await hostd.ask('volume.stats', { volumes }, LOOK_MS);
      return new Map(Object.entries(found) as [VolumeId, { usedMib: number; limitMib: number }][]); // hostd answers only those that it was asked for
    },
    compareFiles: ({ images, under = '', limits }) =>
      hostd.ask('files.compare', { images, under: Buffer.from(under).toString('base64'), limits }, limits.ms + LOOK_MS),
    async packFiles({ instanceId: id, image, merge, limits }) {
      const { path } = await hostd.ask('files.pack', { id, image, merge, limits }, limits.ms + LOOK_MS);
      return {
        read: () => createReadStream(path),
        drop: async () => void (await hostd.ask('files.drop', { id }, REMOVE_MS)),
      };
    },
    images: async () => (await hostd.ask('image.list', {}, LOOK_MS)).images,
    handle,
    pause: (id) => rest('sandbox.pause', id),
    resume: (id) => rest('sandbox.resume', id),
    lean,
    inspect,
    async usage(ids) {
      const [stats, disks] = await Promise.all([
        hostd.ask('sandbox.stats', { ids }, LOOK_MS),
        hostd.ask('disk.stats', { ids }, LOOK_MS),
      ]);
      return new Map(ids.flatMap((id) => usageOf(stats[id], disks[id]).map((usage) => [id, usage] as const)));
    },
    async inventory() {
      const found = await hostd.ask('inventory', {}, LOOK_MS);
      const ids = [...found.sandboxes, ...found.bundles, ...found.mounts, ...found.cgroups, ...found.disks];
      const slots = [...found.netns, ...found.veths, ...found.netElements];
      return { instanceIds: [...new Set(ids)] as InstanceId[], slots: [...new Set(slots)] }; // hostd only knows ids that we gave it
    },
    async capacity() {
      const { memory, pool, swap } = await hostd.ask('node.usage', {}, LOOK_MS);
      const diskMib = Math.max(0, pool.totalMib - pool.reserveMib);
      const diskFreeMib = Math.max(0, pool.freeMib - pool.reserveMib);
      return {
        memoryMib: memory.totalMib,
        memoryFreeMib: memory.availableMib,
        diskMib,
        diskFreeMib,
        swap: swap.areas,
        memoryPressure: memory.pressure,
      };
    },
    guest: (at, token) => tcpGuest(at, token),
    close: () => hostd.close(),
  };
}

/** A name that is not there was never needed: neither disk nor volumes were replaced. */
function passNotFound(error: unknown): void {
  if (!(error instanceof Failure) || error.code !== 'not_found') throw error;
}

/** An image that held other volumes than its journal says would be restored without them. */
function assertSame(found: readonly { volume: string; name: string }[], known: readonly PlacedVolume[]): void {
  const list = (all: readonly { volume: string; name: string }[]) =>
    all.map(({ volume, name }) => `${volume} at ${name}`).sort();
  const [here, written] = [list(found).join(', '), list(known).join(', ')];
  if (here === written) return;
  throw new Failure('internal', `the volumes attached are "${here}", and the journal knows of "${written}"`, {
    retryable: true,
  });
}

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

function openHostd(settings: GvisorSettings): HostdClient {
  const { hostdSocket, scope, traceparent } = settings;
  return hostdClient({ socket: hostdSocket, scope, ...(traceparent ? { traceparent } : {}) });
}

/** The path counts besides the version, which knows of no patch: like a layer's, it is another for another make. */
function buildOf(runsc: VerbResult<'hello'>['runsc'], templates: readonly GvisorTemplate[]): string {
  const parts = [runsc.path, runsc.version, templates.map(({ name, lower }) => [name, lower])];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
}

/** The same makes have the same names wherever a machine keeps them: the last part of a path that names a hash. */
export function makeOf(
  runsc: VerbResult<'hello'>['runsc'],
  templates: readonly GvisorTemplate[],
  cpuinfo: string,
): Make {
  const named = (path: string) => path.split('/').findLast((part) => /-[0-9a-f]{16}$/.test(part)) ?? path;
  const layers = templates.flatMap(({ name, aliases, lower }) =>
    [name, ...aliases].map((one) => [one, lower.map(named).join(' ')]),
  );
  // "flags" on x86, "Features" on Arm.
  const features = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(cpuinfo)?.[1] ?? '';
  return {
    isolation: `${named(runsc.path)} ${runsc.version}`,
    templates: Object.fromEntries(layers),
    cpuFeatures: features.split(' ').filter(Boolean).sort(),
  };
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

const NOTHING_RUNS = { memoryMib: 0, swapMib: 0, cpuUsageNs: 0, txBytes: 0, rxBytes: 0 };

/** Of one that is stored there is a disk; of one that is not there, nothing. */
function usageOf(
  used: VerbResult<'sandbox.stats'>[string] | undefined,
  disk: VerbResult<'disk.stats'>[string] | undefined,
): InstanceUsage[] {
  if (!disk) return used ? [used] : [];
  return [{ ...NOTHING_RUNS, ...used, diskMib: disk.usedMib }];
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
