/**
 * The driver for tests, the simulator and machines that can isolate nothing: instances in memory, under the clock and chance of a FakeHost.
 * It passes the same conformance suite as the real ones.
 */
import { Failure } from '@torpor/kernel';
import type { InstanceId, VolumeId } from '@torpor/contracts';
import { Readable } from 'node:stream';
import { compareFakes } from './fake/compare.ts';
import { packFake } from './fake/merge.ts';
import type { FakeHost, FakeVerb } from './fake/host.ts';
import { fakeTransport } from './fake/guest.ts';
import { guestOver } from './guest-calls.ts';
import { silence } from './guest-health.ts';
import type { Parcel } from './parcels.ts';
import type {
  InstanceDriver,
  InstanceHandle,
  InstanceSpec,
  BootDisk,
  KeptVolume,
  PackSpec,
  PlacedVolume,
  RestoreSpec,
  Step,
  StoreFacts,
  StoreSpec,
  UnpackSpec,
} from './port.ts';
import { assertCovered } from './steps.ts';

const GUEST_PORT = 7070;
const HEALTH_MS = 20_000;

export function fakeDriver(host: FakeHost, options: { templates?: readonly string[] } = {}): InstanceDriver {
  const templates = options.templates ?? ['base'];

  function step(
    name: FakeVerb,
    instanceId: InstanceId,
    after: readonly string[],
    work: () => void | Promise<void>,
  ): Step {
    return {
      name,
      after,
      async run(intent) {
        assertCovered(intent, name, instanceId);
        await host.act(name, instanceId, work);
      },
    };
  }

  function createSteps(spec: InstanceSpec): readonly Step[] {
    const id = spec.instanceId;
    if (!templates.includes(spec.template))
      throw new Failure('not_found', `this node has no template "${spec.template}"`);
    return [
      step('disk.create', id, [], () => {
        if (!host.disks.has(id) && host.diskFreeMib < spec.shape.diskMib)
          throw new Failure('no_capacity', 'the pool of disks is full');
        host.createDisk(id, spec.shape.diskMib);
      }),
      step('net.create', id, [], () => {
        const taken = [...host.nets].find(([other, net]) => net.slot === spec.slot && other !== id);
        if (taken) throw new Failure('conflict', `slot ${spec.slot} belongs to instance ${taken[0]}`);
        host.nets.set(id, { slot: spec.slot });
      }),
      step('sandbox.create', id, ['disk.create', 'net.create'], () =>
        host.createSandbox(id, spec.bootToken, spec.shape.memoryMib),
      ),
      step('sandbox.start', id, ['sandbox.create'], () => {
        host.sandbox(id).started = true;
      }),
      health(id, spec.bootToken, 'sandbox.start'),
    ];
  }

  function health(id: InstanceId, token: string, after: string): Step {
    return step('guest.health', id, [after], async () => {
      const answer = guestOver(fakeTransport(host, id), token).json('GET', '/v1/health', undefined, {
        headMs: HEALTH_MS,
      });
      await answer.catch((error: unknown) => {
        throw silence(error);
      });
    });
  }

  function bootSteps(spec: InstanceSpec, { from, volumes = [] }: BootDisk = {}): readonly Step[] {
    const { instanceId: id, shape } = spec;
    const before = [...releaseSteps(spec), ...(from ? [bootDisk({ id, diskMib: shape.diskMib }, from, volumes)] : [])];
    if (volumes.length > 0) before.push(attach(id, volumes, [before.at(-1)?.name ?? '']));
    const after = before.slice(-1).map(({ name }) => name);
    return [...before, ...createSteps(spec).map((one) => (one.after.length > 0 ? one : { ...one, after }))];
  }

  function bootDisk(
    { id, diskMib }: { id: InstanceId; diskMib: number },
    { name, isThere, keep }: NonNullable<BootDisk['from']>,
    volumes: readonly KeptVolume[],
  ): Step {
    return step('disk.restore', id, ['sandbox.delete'], () => {
      const kept = host.images.get(name);
      if (!kept?.files) {
        if (isThere === 'perhaps') return;
        throw new Failure('not_found', `there is no disk ${name}`, { details: { image: 'damaged' } });
      }
      if (!host.disks.has(id)) host.createDisk(id, diskMib); // a fork's
      if (keep !== undefined && !host.images.has(keep)) host.addToImage(keep, host.disksOf(id));
      host.detachAll(id);
      host.disks.set(id, { ...disk(id), files: kept.files.copy() });
      for (const one of volumes) {
        if (isThere === 'surely' || kept.volumes?.some(({ volume }) => volume === one.of)) bringBack(one, name);
      }
    });
  }

  function volumeBack(volume: string, image: string, of: string): void {
    const { mib, files } = host.keptVolume(image, of);
    // One that is gone comes back as it was then.
    host.volumes.set(volume, { at: undefined, mib, ...host.volumes.get(volume), files: files.copy() });
  }

  function attach(id: InstanceId, volumes: readonly PlacedVolume[], after: readonly string[]): Step {
    return step('volume.attach', id, after, () => {
      for (const { volume, name } of volumes) host.attachVolume(volume, { instanceId: id, name });
    });
  }

  function storeSteps(spec: StoreSpec, told: (facts: Partial<StoreFacts>) => void): readonly Step[] {
    const { instanceId: id, image } = spec;
    const key = keyText(spec.key);
    return [
      step('image.save', id, [], () => {
        const sandbox = host.sandboxes.get(id);
        if (!sandbox) throw new Failure('gone', `instance ${id} is dead`);
        if (!sandbox.gate.isShut)
          throw new Failure('internal', `instance ${id} is not paused; only a paused one is saved`);
        host.pageIn(id); // a save reads all of it
        host.addToImage(image, { key, memory: sandbox.machine.memory() });
        const memoryMib = host.usage(id)?.memoryMib ?? 0;
        told({ bytes: 1 << 20, memoryBytes: memoryMib * 2 ** 20, digest: `fake-${image}`, stallMs: 0, saveMs: 0 });
      }),
      step('disk.snapshot', id, ['image.save'], () => {
        const found = host.disksOf(id);
        const list = (all: readonly { volume: string; name: string }[]) =>
          all
            .map(({ volume, name }) => `${volume}/${name}`)
            .sort()
            .join();
        if (list(found.volumes) !== list(spec.volumes ?? []))
          throw new Failure('internal', 'other volumes are attached than the journal knows of', { retryable: true });
        host.addToImage(image, found);
      }),
      step('image.seal', id, ['disk.snapshot'], () => {
        host.addToImage(image, { manifest: JSON.stringify(spec.manifest) });
        told({ fsyncMs: 0 });
      }),
      step('image.verify', id, ['image.seal'], () => {
        host.readImage(image, key);
        told({ verifyMs: 0 });
      }),
    ];
  }

  function releaseSteps({ instanceId: id }: { instanceId: InstanceId }): readonly Step[] {
    return [step('sandbox.delete', id, [], () => host.kill(id))];
  }

  function restoreSteps(spec: RestoreSpec): readonly Step[] {
    const { instanceId: id, image, token } = spec;
    const key = keyText(spec.key);
    const [, net, sandbox] = createSteps(spec);
    if (!net || !sandbox) throw new Error('the fake driver has lost its creating steps');
    const back = spec.disk.kind === 'as-then' ? diskBack(spec, spec.disk.keep) : [];
    return [
      ...releaseSteps(spec),
      ...back,
      { ...net, after: ['sandbox.delete'] },
      { ...sandbox, after: [net.name, ...back.map(({ name }) => name)] },
      step('sandbox.restore', id, ['sandbox.create'], () => host.restoreSandbox(id, image, key)),
      health(id, token, 'sandbox.restore'),
    ];
  }

  function diskBack(
    { instanceId: id, image, key, shape, volumes = [] }: RestoreSpec,
    keep: string | undefined,
  ): Step[] {
    const whole = step('disk.restore', id, ['sandbox.delete'], () => {
      const then = host.readImage(image, keyText(key)).files;
      if (!host.disks.has(id)) host.createDisk(id, shape.diskMib); // a fork's
      const now = disk(id);
      if (keep !== undefined && !host.images.has(keep)) host.addToImage(keep, host.disksOf(id));
      host.detachAll(id);
      host.disks.set(id, { ...now, files: then.copy() });
    });
    if (volumes.length === 0) return [whole];
    const back = step('volume.restore', id, ['disk.restore'], () => {
      for (const one of volumes) bringBack(one, image);
    });
    return [whole, back, attach(id, volumes, ['volume.restore'])];
  }

  function bringBack({ volume, of, newMib }: KeptVolume, image: string): void {
    if (of === undefined) return;
    if (newMib === undefined) volumeBack(volume, image, of);
    else host.holdVolume(volume, newMib, host.keptVolume(image, of).files);
  }

  function forgetSteps(spec: { instanceId: InstanceId; images: readonly string[] }): readonly Step[] {
    return spec.images.length > 0 ? [forget(spec.instanceId, spec.images, [])] : [];
  }

  function forget(id: InstanceId, images: readonly string[], after: readonly string[]): Step {
    return step('image.delete', id, after, () => {
      for (const image of images) {
        host.images.delete(image);
        host.parcels.delete(image);
      }
    });
  }

  function disk(id: InstanceId) {
    const found = host.disks.get(id);
    if (!found) throw new Failure('not_found', `instance ${id} has no disk`);
    return found;
  }

  function packSteps({ instanceId: id, images }: PackSpec, told: (parcel: Parcel) => void): readonly Step[] {
    return [
      step('parcel.pack', id, [], () => {
        for (const { image, key, diskAlone = false } of images) {
          if (!diskAlone) host.readImage(image, keyText(key));
          const found = host.images.get(image);
          if (!found) throw new Failure('not_found', `there is no image ${image}`);
          const files = [{ name: 'ticket', bytes: host.parcels.pack(image, found) }];
          told({ image, files, diskDigest: found.files?.fingerprint() ?? '', diskMib: 1024, diskUsedMib: 1 });
        }
      }),
    ];
  }

  function unpackSteps({ instanceId: id, key, parcel, diskAlone = false }: UnpackSpec): readonly Step[] {
    const { image, diskDigest } = parcel;
    return [
      step('parcel.unpack', id, [], () => {
        const found = host.parcels.unpack(image);
        host.images.set(image, found);
        const files = diskAlone ? found.files : host.readImage(image, keyText(key)).files;
        if (files?.fingerprint() === diskDigest) return;
        throw new Failure('unprocessable', `the disk of image ${image} is another`, { details: { image: 'damaged' } });
      }),
      ...unpackedSteps({ instanceId: id, images: [image] }).map((one) => ({ ...one, after: ['parcel.unpack'] })),
    ];
  }

  function unpackedSteps({ instanceId: id, images }: { instanceId: InstanceId; images: readonly string[] }) {
    return [step('parcel.delete', id, [], () => images.forEach((image) => host.parcels.delete(image)))];
  }

  function destroySteps(instance: { instanceId: InstanceId; images?: readonly string[] }): readonly Step[] {
    const { instanceId: id, images = [] } = instance;
    return [
      step('sandbox.delete', id, [], () => host.kill(id)),
      step('net.delete', id, ['sandbox.delete'], () => void host.nets.delete(id)),
      step('disk.delete', id, ['sandbox.delete'], () => {
        host.detachAll(id);
        host.disks.delete(id);
      }),
      ...(images.length > 0 ? [forget(id, images, ['sandbox.delete'])] : []),
    ];
  }

  /** A step whose intent is a volume's own. */
  function volumeStep(name: FakeVerb, volume: VolumeId, work: () => void): Step {
    return {
      name,
      after: [],
      async run(intent) {
        assertCovered(intent, name, volume);
        await host.act(name, undefined, work);
      },
    };
  }

  async function timed(verb: FakeVerb, instanceId: InstanceId, work: () => void): Promise<{ tookMs: number }> {
    const before = host.clock.monotonicMs();
    await host.act(verb, instanceId, work);
    return { tookMs: host.clock.monotonicMs() - before };
  }

  return {
    name: 'fake',
    isolation: 'none',
    templates,
    get build() {
      return host.build;
    },
    get make() {
      const made = templates.map((name) => [name, name]);
      return { isolation: host.build, templates: Object.fromEntries(made), cpuFeatures: [...host.cpuFeatures] };
    },
    prepare: () => host.act('node.prepare', undefined, () => {}),
    createSteps,
    destroySteps,
    bootSteps,
    storeSteps,
    releaseSteps,
    restoreSteps,
    forgetSteps,
    packSteps,
    unpackSteps,
    unpackedSteps,
    parcels: host.parcels,
    volumeSteps: ({ volume, sizeMib, from }) => [
      volumeStep('volume.create', volume, () =>
        host.holdVolume(volume, sizeMib, from === undefined ? undefined : host.volume(from).files),
      ),
    ],
    dropVolumeSteps: ({ volume }) => [
      volumeStep('volume.delete', volume, () => {
        const at = host.volumes.get(volume)?.at;
        if (at) throw new Failure('unavailable', `volume ${volume} is attached to instance ${at.instanceId}`);
        host.volumes.delete(volume);
      }),
    ],
    attachSteps: ({ instanceId, volume, name }) => [
      volumeStep('volume.attach', volume, () => {
        disk(instanceId);
        host.attachVolume(volume, { instanceId, name });
      }),
    ],
    detachSteps: ({ volume }) => [volumeStep('volume.detach', volume, () => host.detachVolume(volume))],
    volumeUsage: (all) =>
      host.act('volume.stats', undefined, () => {
        const found = all.flatMap(({ volume }) => {
          const there = host.volumes.get(volume);
          return there
            ? [[volume, { usedMib: Math.ceil(there.files.usedBytes / 2 ** 20), limitMib: there.mib }] as const]
            : [];
        });
        return new Map(found);
      }),
    compareFiles: ({ images }) =>
      host.act('files.compare', undefined, () => {
        const trees = images.map((image) => {
          const { files } = host.images.get(image) ?? {};
          if (!files) throw new Failure('not_found', `there is no image ${image}`);
          return files;
        });
        return { ...compareFakes(trees), tookMs: 0 };
      }),
    packFiles: ({ image, merge }) =>
      host.act('files.pack', undefined, () => {
        const { files } = host.images.get(image) ?? {};
        if (!files) throw new Failure('not_found', `there is no image ${image}`);
        const packed = packFake(files, merge);
        return { read: () => Readable.from([packed]), drop: () => Promise.resolve() };
      }),
    images: () =>
      host.act('image.list', undefined, () =>
        [...host.images]
          .filter(([, { memory }]) => memory !== undefined)
          .map(([image, { manifest }]) => ({ image, sealed: manifest !== undefined, bytes: 1 << 20 })),
      ),
    handle: ({ instanceId, slot }): InstanceHandle => ({ instanceId, slot, host: '127.0.0.1', port: GUEST_PORT }),
    pause: (id) => timed('sandbox.pause', id, () => host.sandbox(id).gate.shut()),
    resume: (id) =>
      timed('sandbox.resume', id, () => {
        host.pageIn(id);
        host.sandbox(id).gate.open();
      }),
    lean: async (id, { giveWay }) => {
      const { tookMs } = await timed('sandbox.lean', id, () => {
        if (!giveWay.aborted) host.pageOut(id);
      });
      const { memoryMib = 0, swapMib = 0 } = host.usage(id) ?? {};
      return { tookMs, memoryMib, swapMib, gaveWay: giveWay.aborted };
    },
    inspect: (id) => host.act('sandbox.state', id, () => host.facts(id)),
    usage: (ids) =>
      host.act('sandbox.stats', undefined, () => {
        const known = ids.map((id) => [id, host.usage(id)] as const);
        return new Map(known.flatMap(([id, usage]) => (usage ? [[id, usage] as const] : [])));
      }),
    inventory: () =>
      host.act('inventory', undefined, () => ({
        instanceIds: [...new Set([...host.disks.keys(), ...host.nets.keys(), ...host.sandboxes.keys()])],
        slots: [...host.nets.values()].map((net) => net.slot),
      })),
    capacity: async () => ({
      memoryMib: host.memory.totalMib,
      memoryFreeMib: host.memory.freeMib,
      diskMib: host.diskMib,
      diskFreeMib: host.diskFreeMib,
      swap: host.swap.sizeMib === 0 ? [] : [{ kind: 'zram', device: '/dev/fake', ...host.swap, atRest: 'memory' }],
      memoryPressure: host.memoryPressure,
    }),
    guest: (handle, token) => guestOver(fakeTransport(host, handle.instanceId), token),
    close() {},
  };
}

function keyText(key: Uint8Array): string {
  return Buffer.from(key).toString('base64');
}
