/** The room, put together: everything outside comes in as a parameter, so that a test or the simulator can give another. */
import type { Wire } from '@torpor/bus';
import type { InstanceId, Isolation, NodeId, NodeSwap, SwapArea, SwapKind } from '@torpor/contracts';
import { explain, Lifetime, Turns, type Chance, type Clock } from '@torpor/kernel';
import { DEFAULT_PRICES, mayPageOut, type Prices } from '@torpor/policy';
import type { InstanceDriver } from '@torpor/runtime';
import type { Telemetry } from '@torpor/telemetry';
import { serveCalls } from './calls.ts';
import { serveDataPlane, type DataPlane } from './data-plane/server.ts';
import { nodeEvents } from './events.ts';
import { serveFiles } from './files/calls.ts';
import { Heartbeat } from './heartbeat/heartbeat.ts';
import type { NodeKey } from './images/node-key.ts';
import type { SnapshotPolicy } from './images/retention.ts';
import { Journal, type Failpoints, type JournalStore } from './journal/index.ts';
import { Lease } from './lease/lease.ts';
import { Slots } from './life/slots.ts';
import { Meter } from './metering/meter.ts';
import { overHttp, type Origin, type ParcelSource } from './moves/carry.ts';
import { ParcelOffice } from './moves/office.ts';
import type { Note } from './note.ts';
import type { Parts, Recipe } from './parts.ts';
import { Admission, type Watermarks } from './pools/admission.ts';
import { Pools, type PoolTarget } from './pools/pools.ts';
import { Pressure } from './pressure/pressure.ts';
import { Receipts } from './receipts/receipts.ts';
import { Signer } from './receipts/signer.ts';
import { relieveHost } from './standby/relief.ts';
import { makeRounds } from './standby/rounds.ts';
import { Standby } from './standby/standby.ts';
import { tellChange } from './standby/tell.ts';
import { serveVolumes } from './volumes/calls.ts';
import { Volumes } from './volumes/volumes.ts';

export interface NodeAgentOptions {
  readonly nodeId: NodeId;
  /** How gateways reach the data plane. */
  readonly url: string;
  readonly isolation: Isolation;
  /** Absent: no listener, as in the simulator. */
  readonly listen?: { readonly host: string; readonly port: number };
  readonly dataKey: string;
  readonly pools: readonly PoolTarget[];
  readonly refillCpuShare: number;
  /** How many pooled instances are claimed side by side, how many more born cold, and how many restored; the others wait, first come first served. */
  readonly birthsAtOnce: number;
  readonly watermarks?: Watermarks;
  /** Of those that a host stores because it is short of memory. */
  readonly storesAtOnce?: number;
  recipeOf(template: string): Recipe;
  readonly clock: Clock;
  readonly chance: Chance;
  readonly wire: Wire;
  readonly driver: InstanceDriver;
  readonly nodeKey: NodeKey;
  /** How long an instance sleeps in RAM before it is paged out; 0: only when that is asked for, or the host wants the RAM. */
  readonly leanAfterMs: number;
  readonly swap: SwapKind;
  /** How long an instance sleeps in RAM before it is stored; 0: for ever. */
  readonly storeAfterMs: number;
  /** What sleeping costs, and so what a wake budget's choice goes by. */
  readonly prices?: Prices;
  readonly snapshotPolicy: SnapshotPolicy;
  /** Absent: over HTTP, from other nodes' listeners. */
  readonly sourceOf?: (from: Origin) => ParcelSource;
  readonly telemetry: Telemetry;
  readonly journalStore: JournalStore;
  /** Of volumes: their journals lie apart. */
  readonly volumeStore: JournalStore;
  /** What outlives the process besides the journal. */
  readonly notes: { readonly lease: Note; readonly metering: Note };
  readonly failpoints?: Failpoints;
}

export interface NodeAgent {
  /** Absent without a listener. */
  readonly dataPlane: DataPlane | undefined;
  readonly standby: Standby;
  readonly pools: Pools;
  readonly parcels: ParcelOffice;
  health(): Promise<{ ok: boolean } & Record<string, unknown>>;
  /** Leaves every instance as it is: the node-agent ends, its sandboxes go on. */
  close(): Promise<void>;
  /** As `close`, with every sandbox asleep: the whole stack goes down. They wake at their first use by the next node-agent. */
  rest(): Promise<void>;
}

const WATERMARKS: Watermarks = { memoryFreeMib: 768, diskFreeMib: 512 };
const STORES_AT_ONCE = 2;

export async function nodeAgent(options: NodeAgentOptions): Promise<NodeAgent> {
  const { clock, chance, wire, driver, telemetry, nodeId } = options;
  const lifetime = new Lifetime();
  const closing = lifetime.signal;
  const events = nodeEvents(telemetry);
  const journal = new Journal({
    store: options.journalStore,
    clock,
    ...(options.failpoints ? { failpoints: options.failpoints } : {}),
  });
  const volumes = new Volumes({
    driver,
    journal: new Journal({
      store: options.volumeStore,
      clock,
      ...(options.failpoints ? { failpoints: options.failpoints } : {}),
    }),
    clock,
    events,
  });
  const admission = new Admission({ driver, clock, watermarks: options.watermarks ?? WATERMARKS });
  const parts: Parts = {
    driver,
    journal,
    clock,
    chance,
    events,
    slots: new Slots(),
    admission,
    nodeKey: options.nodeKey,
    volumes,
    receipts: new Receipts({ nodeId, signer: new Signer(options.nodeKey.signing()), store: options.journalStore }),
    leanAfterMs: options.leanAfterMs,
    swap: options.swap,
    storeAfterMs: options.storeAfterMs,
    prices: options.prices ?? DEFAULT_PRICES,
    restores: new Turns(options.birthsAtOnce),
    snapshotPolicy: options.snapshotPolicy,
    recipeOf: options.recipeOf,
    closing,
  };
  const pools = new Pools({
    parts,
    targets: options.pools,
    cpuShare: options.refillCpuShare,
    hasRoom: () => admission.hasAmple(),
  });
  const imageBytes = (instanceId: InstanceId) => standby.find(instanceId)?.imageBytes ?? 0;
  const meter = new Meter({ parts, wire, nodeId, note: options.notes.metering, imageBytes });
  const standby: Standby = new Standby({
    parts,
    pools,
    birthsAtOnce: options.birthsAtOnce,
    changed: (instance, before) => {
      meter.changed(instance);
      tellChange({ wire, clock, nodeId }, instance, before);
      if (isChangeOfSet(before) || isChangeOfSet(instance.state)) heartbeat.changed();
    },
  });
  const lease = new Lease({
    clock,
    note: options.notes.lease,
    closing,
    lost: () => standby.fence(),
    renewed: () => standby.unfence(),
  });
  const heartbeat = new Heartbeat({
    wire,
    clock,
    events,
    closing,
    nodeId,
    tell: async () => {
      const { swap, memoryPressure: _, ...capacity } = await admission.look();
      const instances = standby.reports();
      events.instanceCounts(instances.map(({ state }) => state));
      return {
        nodeId,
        url: options.url,
        isolation: options.isolation,
        templates: [...driver.templates],
        capacity: { ...capacity, slotsFree: parts.slots.freeCount, swap: swapOf(options.swap, swap) },
        pool: pools.depths().map(({ template, shape, ready, size }) => ({ template, shape, ready, target: size })),
        instances,
      };
    },
    answered: (sentMs, leaseMs) => lease.renew(sentMs, leaseMs),
    unwanted: ({ instanceId, generation, keep }) => {
      const known = standby.find(instanceId);
      if (known?.claim.generation !== generation) return;
      events.unwanted({ instanceId, generation });
      void standby.stop(instanceId, generation, 'nobody wants it any more', keep);
    },
  });

  await driver.prepare();
  await admission.look();
  await meter.recall();
  await volumes.recall();
  await standby.adopt();
  meter.takenOver(standby.all());
  await lease.recall();
  lifetime.own('the metering', () => meter.close());
  lifetime.own('the standby engine', () => standby.close());
  let resting = false;
  lifetime.own('the rest of the sandboxes', () => (resting ? standby.putAllToSleep() : undefined));
  const parcels = new ParcelOffice(parts, standby, nodeId);
  const dataPlane = options.listen
    ? await serveDataPlane({
        parcels,
        listen: options.listen,
        dataKey: options.dataKey,
        standby,
        clock,
        chance,
        events,
        telemetry,
      })
    : undefined;
  if (dataPlane) lifetime.own('the data plane', () => dataPlane.close());
  const { nodeKey } = options;
  const sourceOf = options.sourceOf ?? ((from: Origin) => overHttp(from, options.dataKey));
  const { receipts } = parts;
  const calls = await serveCalls({
    wire,
    clock,
    nodeId,
    standby,
    driver,
    receipts,
    journal,
    nodeKey,
    sourceOf,
    telemetry,
  });
  lifetime.own('the calls', () => calls.close());
  const pressure = new Pressure({
    parts,
    instances: () => standby.all(),
    storesAtOnce: options.storesAtOnce ?? STORES_AT_ONCE,
  });
  inBackground('pressure', pressure.watch());
  const volumeCalls = await serveVolumes({ wire, nodeId, standby, volumes, telemetry });
  lifetime.own('the calls about volumes', () => volumeCalls.close());
  const fileCalls = await serveFiles({ wire, nodeId, standby, driver, telemetry, untidy: events.untidy });
  lifetime.own('the calls about files', () => fileCalls.close());
  inBackground('volumes', volumes.settle());
  inBackground('pools', pools.keepFull());
  inBackground('heartbeat', heartbeat.beat());
  inBackground('lease', lease.watch());
  inBackground('metering', meter.run());
  inBackground(
    'relief',
    relieveHost(parts, () => standby.all()),
  );
  inBackground(
    'rounds',
    makeRounds(parts, () => standby.all()),
  );

  return {
    dataPlane,
    standby,
    pools,
    parcels,
    health,
    close: () => lifetime.close(),
    rest: () => {
      resting = true;
      return lifetime.close();
    },
  };

  function inBackground(where: string, work: Promise<void>): void {
    work.catch((error: unknown) => events.bug({ where, reason: explain(error) }));
  }

  async function health() {
    const heardMs = heartbeat.lastAnswerMs;
    return {
      // Until the scheduler knows of this node, nothing can be placed on it.
      ok: !closing.aborted && heardMs !== undefined,
      instances: standby.size,
      fenced: lease.isOver,
      schedulerHeardMsAgo: heardMs === undefined ? null : Math.round(clock.monotonicMs() - heardMs),
      pools: pools.depths(),
    };
  }
}

function swapOf(kind: SwapKind, areas: readonly SwapArea[]): NodeSwap {
  const verdict = mayPageOut(kind, areas);
  const reason = verdict.kind === 'may' ? {} : { reason: verdict.reason };
  return { areas: [...areas], pagesOut: verdict.kind === 'may', ...reason };
}

/** Sleeping and waking leave the set as it is; the scheduler hears of them with the next beat. */
function isChangeOfSet(state: string): boolean {
  return state === 'creating' || state === 'deleting' || state === 'deleted' || state === 'failed';
}
