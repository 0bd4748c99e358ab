/** Builds what the room is given outside of tests, from what the operator has written down. */
import { natsWire } from '@torpor/bus';
import type { NodeAgentConfig, NodeAgentSecrets } from '@torpor/config';
import { explain, Failure, Lifetime, systemChance, systemClock } from '@torpor/kernel';
import { swapToMake } from '@torpor/policy';
import { fakeDriver, FakeHost, gvisorDriver, isAddressIn, type InstanceDriver } from '@torpor/runtime';
import { currentSpan, openTelemetry, serveObserve } from '@torpor/telemetry';
import { join } from 'node:path';
import { mkdir } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { failpointsFrom, fileJournalStore } from './journal/index.ts';
import { nodeKeyIn } from './images/node-key.ts';
import { nodeAgent } from './node-agent.ts';
import { forwardNames } from './names/forwarder.ts';
import { fileNote } from './note.ts';
import type { Recipe } from './parts.ts';
import type { Watermarks } from './pools/admission.ts';

const MIB = 2 ** 20;
/** In the pool of disks, for those who are here already. */
const DISK_KEPT_MIB = 512;

export async function startRoom(
  { config, secrets }: { config: NodeAgentConfig; secrets: NodeAgentSecrets },
  env: NodeJS.ProcessEnv,
): Promise<{ close(): Promise<void>; rest(): Promise<void> }> {
  const lifetime = new Lifetime();
  const { installation, version, logLevel, otlpEndpoint, nodeId, stateDir } = config;
  const telemetry = openTelemetry({ room: 'node-agent', version, logLevel, otlpEndpoint });
  lifetime.own('telemetry', () => telemetry.close());
  const trouble = (what: string, error: unknown) => telemetry.log.warn(what, { reason: explain(error) });

  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  const wire = await natsWire({
    url: config.nats.url,
    user: config.nats.user,
    password: secrets.natsPassword,
    room: `node-agent ${nodeId}`,
    onTrouble: trouble,
  });
  lifetime.own('wire', () => wire.close());
  const driver = driverOf(config, trouble);
  lifetime.own('driver', () => driver.close());
  const note = (name: string) => fileNote(join(stateDir, name), (error) => trouble(`${name} not written`, error));
  const room = await nodeAgent({
    nodeId,
    url: config.url,
    isolation: config.isolation,
    listen: config.listen,
    dataKey: secrets.dataKey,
    pools: config.pools,
    refillCpuShare: config.refillCpuShare,
    birthsAtOnce: 2 * availableParallelism(),
    storesAtOnce: availableParallelism(),
    watermarks: watermarksOf(config.memory),
    recipeOf: (template) => recipeOf(config, template),
    clock: systemClock,
    chance: systemChance,
    wire,
    driver,
    nodeKey: await nodeKeyIn(join(stateDir, 'node.key')),
    leanAfterMs: config.leanAfterMs,
    swap: config.swap.kind,
    storeAfterMs: config.storeAfterMs,
    prices: config.prices,
    snapshotPolicy: config.snapshots,
    telemetry,
    journalStore: await fileJournalStore(join(stateDir, 'journal')),
    volumeStore: await fileJournalStore(join(stateDir, 'volumes')),
    notes: { lease: note('lease'), metering: note('metering.json') },
    failpoints: failpointsFrom(env['TORPOR_FAILPOINTS']),
  });
  lifetime.own('node-agent', () => room.close());
  if (config.driver.kind === 'gvisor') {
    const { dnsPort, subnet } = config.driver;
    const names = await forwardNames({
      port: dnsPort,
      isInstance: (address) => isAddressIn(subnet, address),
      onTrouble: trouble,
    });
    lifetime.own('names', () => names.close());
  }
  const health = async () => ({ ...(await room.health()), bus: wire.isConnected() });
  const observe = await serveObserve(config.observe, telemetry, health);
  lifetime.own('observe', () => observe.close());
  telemetry.log.info('node-agent is ready', {
    installation,
    nodeId,
    version,
    url: config.url,
    driver: config.driver.kind,
  });
  return {
    close: () => lifetime.close(),
    rest: async () => {
      await room.rest();
      await lifetime.close();
    },
  };
}

/** The headroom is for a few wakes at once of sandboxes that hold much: a twelfth of what sandboxes may have. */
function watermarksOf({ keptMib, headroomMib }: NodeAgentConfig['memory']): Watermarks {
  const mineMib = Math.max(0, totalmem() / MIB - keptMib);
  return { memoryFreeMib: keptMib, diskFreeMib: DISK_KEPT_MIB, headroomMib: headroomMib ?? mineMib / 12 };
}

function driverOf(
  { driver, listen, swap }: NodeAgentConfig,
  trouble: (what: string, error: unknown) => void,
): InstanceDriver {
  switch (driver.kind) {
    case 'gvisor':
      return gvisorDriver({
        ...driver,
        hostPorts: [listen.port],
        traceparent: () => currentSpan()?.traceparent,
        swap: { kinds: swapToMake(swap.kind), sizeMib: swap.sizeMib ?? Math.floor(totalmem() / 2 ** 21) },
        onUnresolved: (host, error) => trouble(`egress.allow: ${host} has no address`, error),
        onSwapTrouble: (reason) => trouble('a kind of swap cannot be had', reason),
      });
    case 'fake':
      return fakeDriver(new FakeHost());
  }
}

/** How a sandbox of a template begins; the template may be named by an alias. */
function recipeOf({ driver }: NodeAgentConfig, name: string): Recipe {
  if (driver.kind === 'fake') return { template: name, workdir: '/blaxel', user: 'root', env: {} };
  const found = driver.templates.find((template) => template.name === name || template.aliases.includes(name));
  if (!found) throw new Failure('not_found', `this node has no template "${name}"`);
  return { template: found.name, workdir: found.workdir, user: found.user, env: found.env };
}
