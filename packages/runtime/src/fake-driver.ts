/**
 * The driver for tests, the simulator and machines that can isolate nothing: instances in memory, under the clock and chance of a FakeHost.
 * It passes the same conformance suite as the real ones.
 */
import { Failure } from '@torpor/kernel';
import type { InstanceId } from '@torpor/contracts';
import type { FakeHost, FakeVerb } from './fake/host.ts';
import { fakeTransport } from './fake/guest.ts';
import { guestOver } from './guest-calls.ts';
import type { InstanceDriver, InstanceHandle, InstanceSpec, Step } from './port.ts';
import { assertCovered } from './steps.ts';

const GUEST_PORT = 7070;

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
        host.disks.set(id, { mib: spec.shape.diskMib, usedMib: 0 });
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
      step('guest.health', id, ['sandbox.start'], async () => {
        await guestOver(fakeTransport(host, id), spec.bootToken).json('GET', '/v1/health');
      }),
    ];
  }

  function destroySteps({ instanceId: id }: { instanceId: InstanceId }): readonly Step[] {
    return [
      step('sandbox.delete', id, [], () => host.kill(id)),
      step('net.delete', id, ['sandbox.delete'], () => void host.nets.delete(id)),
      step('disk.delete', id, ['sandbox.delete'], () => void host.disks.delete(id)),
    ];
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
    prepare: () => host.act('node.prepare', undefined, () => {}),
    createSteps,
    destroySteps,
    handle: ({ instanceId, slot }): InstanceHandle => ({ instanceId, slot, host: '127.0.0.1', port: GUEST_PORT }),
    pause: (id) => timed('sandbox.pause', id, () => host.sandbox(id).gate.shut()),
    resume: (id) => timed('sandbox.resume', id, () => host.sandbox(id).gate.open()),
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
    }),
    guest: (handle, token) => guestOver(fakeTransport(host, handle.instanceId), token),
    close() {},
  };
}
