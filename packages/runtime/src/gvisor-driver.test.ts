import type { InstanceId } from '@torpor/contracts';
import { expect, it } from 'vitest';
import { instanceAddress, isAddressIn } from './addresses.ts';
import { anyIntent } from './conformance.ts';
import { gvisorDriver } from './gvisor-driver.ts';
import type { HostdClient } from './hostd-client.ts';

const id = 'instance1' as InstanceId; // has the shape of one

const settings = {
  hostdSocket: '/nowhere',
  scope: 'abc123',
  subnet: '10.83.0.0/16',
  guestPort: 7000,
  pool: { sizeMib: 1024, reserveMib: 100 },
  egress: { allow: [{ host: '192.0.2.7', port: 443 }], bandwidthMbit: 100, connections: 100 },
  dnsPort: 5353,
  hostPorts: [8080],
  templates: [{ name: 'base', aliases: ['blaxel/base-image:latest'], lower: ['/layer', '/base'] }],
};

/** A hostd that notes what it is asked and answers from a table. */
function scripted(results: Record<string, unknown>): { hostd: HostdClient; asked: [string, unknown][] } {
  const asked: [string, unknown][] = [];
  const answer = async (verb: string, args: unknown) => {
    asked.push([verb, args]);
    return results[verb] as never; // the script stands for the protocol
  };
  return { asked, hostd: { ask: answer, change: (_intent, verb, args) => answer(verb, args), close() {} } };
}

it('finds the instance where hostd puts it', () => {
  expect(instanceAddress('10.83.0.0/16', 0)).toBe('10.83.0.2');
  expect(instanceAddress('10.83.0.0/16', 63)).toBe('10.83.0.254');
  expect(instanceAddress('10.83.0.0/16', 64)).toBe('10.83.1.2');
  expect(instanceAddress('10.83.0.0/16', 16_383)).toBe('10.83.255.254');
  expect(() => instanceAddress('10.83.0.0/16', 16_384)).toThrow(/slot/);
  expect(() => instanceAddress('10.83.1.0/24', 1)).toThrow(/subnet/);
  expect(
    ['10.83.0.6', '10.83.255.254', '10.8.3.1', '10.830.0.6'].map((address) => isAddressIn('10.83.0.0/16', address)),
  ).toEqual([true, true, false, false]);
  expect(() => isAddressIn('', '10.83.0.6')).toThrow(/subnet/);
});

const hello = { protocol: 1, scope: 'abc123', pid: 1, runsc: { path: '/cache/runsc-1/runsc', version: 'v1' } };

it('tells hostd what the node is to be', async () => {
  const { hostd, asked } = scripted({ hello });
  await gvisorDriver(settings, hostd).prepare();
  expect(asked).toEqual([
    ['hello', { protocol: 1 }],
    [
      'node.prepare',
      {
        pool: { sizeMib: 1024, reserveMib: 100 },
        subnet: '10.83.0.0/16',
        hostPorts: { guestToHost: [8080] },
        dns: { listenPort: 5353 },
        egress: { allow: [{ ip: '192.0.2.7', port: 443, proto: 'tcp' }] },
        limits: { bandwidthMbit: 100, connections: 100 },
      },
    ],
  ]);
});

it('names a build by runsc and by what templates are made of', async () => {
  const base = { name: 'base', aliases: [], lower: ['/guest-1', '/base-1'] };
  const buildWith = async (path: string, lower: string[]) => {
    const { hostd } = scripted({ hello: { ...hello, runsc: { path, version: 'v1' } } });
    const driver = gvisorDriver({ ...settings, templates: [{ ...base, lower }] }, hostd);
    await driver.prepare();
    return driver.build;
  };
  const first = await buildWith('/runsc-1', ['/guest-1', '/base-1']);
  expect(await buildWith('/runsc-1', ['/guest-1', '/base-1'])).toBe(first);
  expect(await buildWith('/runsc-2', ['/guest-1', '/base-1'])).not.toBe(first);
  expect(await buildWith('/runsc-1', ['/guest-2', '/base-1'])).not.toBe(first);
});

it('makes an instance by one verb a step, disk and network side by side', async () => {
  const { hostd, asked } = scripted({});
  const driver = gvisorDriver(settings, hostd);
  const shape = { memoryMib: 512, cpus: 1, diskMib: 1024, pids: 256 };
  const spec = { instanceId: id, slot: 3, template: 'blaxel/base-image:latest', shape, bootToken: 'boot' };
  const steps = driver.createSteps(spec);
  expect(steps.map(({ name, after }) => [name, after])).toEqual([
    ['disk.create', []],
    ['net.create', []],
    ['sandbox.create', ['disk.create', 'net.create']],
    ['sandbox.start', ['sandbox.create']],
    ['guest.health', ['sandbox.start']],
  ]);
  for (const step of steps.slice(0, 3)) await step.run(anyIntent(id));
  expect(asked[2]).toMatchObject([
    'sandbox.create',
    {
      id,
      slot: 3,
      lower: ['/layer', '/base'],
      limits: { memoryMib: 512, cpus: 1, pids: 256 },
      argv: ['/torpor/guest', '--listen', '0.0.0.0:7000'],
      env: expect.arrayContaining(['TORPOR_BOOT_TOKEN=boot', 'TORPOR_NAMESERVER=10.83.0.13']),
      volumeDir: true,
    },
  ]);
  expect(() => driver.createSteps({ ...spec, template: 'unknown' })).toThrow(/no template "unknown"/);
});

it('makes the place of an image of what that was made of, whatever new ones are made of by now', async () => {
  const madeOf = {
    build: { runsc: 'runsc-0', hostd: 'hostd-0' },
    lower: ['/layer-0', '/base-0'],
    argv: ['/torpor/guest', '--as-then'],
    memoryMib: 256,
    nofile: 1024,
    volumeDir: true,
  };
  const restored = async (manifest: object) => {
    const { hostd, asked } = scripted({ 'image.read': { manifest } });
    const shape = { memoryMib: 512, cpus: 1, diskMib: 1024, pids: 256 };
    const spec = { instanceId: id, slot: 3, template: 'base', shape, bootToken: 'boot' };
    const disk = { kind: 'as-it-is' } as const;
    const steps = gvisorDriver(settings, hostd).restoreSteps({
      ...spec,
      image: 'i-1',
      key: new Uint8Array(32),
      token: 't',
      disk,
    });
    for (const step of steps.slice(0, -1)) await step.run(anyIntent(id));
    return asked.find(([verb]) => verb === 'sandbox.create')?.[1];
  };
  const { build, lower, argv } = madeOf;
  const limits = { memoryMib: 256, nofile: 1024, cpus: 1, pids: 256 };
  expect(await restored({ digest: 'd', madeOf })).toMatchObject({
    id,
    slot: 3,
    hostname: id,
    build,
    lower,
    argv,
    limits,
  });
  const ofBefore = await restored({ digest: 'd' }); // of a hostd that knew of no builds
  expect(ofBefore).toMatchObject({ id, lower: ['/layer', '/base'], limits: { memoryMib: 512 } });
  expect(ofBefore).not.toHaveProperty('build');
});

it.each([
  [{ exists: false, runsc: 'absent', frozen: false }, 'absent'],
  [{ exists: true, runsc: 'stopped', frozen: false }, 'absent'],
  [{ exists: true, runsc: 'created', frozen: false }, 'starting'],
  [{ exists: true, runsc: 'running', frozen: false }, 'running'],
  [{ exists: true, runsc: 'paused', frozen: false }, 'frozen'],
  [{ exists: true, runsc: 'paused', frozen: true }, 'frozen'],
] as const)('calls %o %s', async (state, expected) => {
  const { hostd } = scripted({ 'sandbox.state': state });
  expect((await gvisorDriver(settings, hostd).inspect(id)).state).toBe(expected);
});

it('counts everything found of an instance as the instance', async () => {
  const found = {
    sandboxes: ['a1'],
    bundles: ['a2'],
    mounts: ['a1'],
    cgroups: ['a3'],
    disks: ['a4'],
    netns: [1],
    veths: [2],
    netElements: [1],
  };
  const { hostd } = scripted({ inventory: found });
  expect(await gvisorDriver(settings, hostd).inventory()).toEqual({
    instanceIds: ['a1', 'a2', 'a3', 'a4'],
    slots: [1, 2],
  });
});
