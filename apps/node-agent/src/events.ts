/** Everything this room tells of itself: the metric, the log line and their attributes together. */
import { InstanceState, Loss, WakeTier, type NodeId, type Receipt } from '@torpor/contracts';
import type { Telemetry } from '@torpor/telemetry';

export type NodeEvents = ReturnType<typeof nodeEvents>;

type Who = {
  readonly instanceId?: string;
  readonly hostId?: string;
  readonly generation?: number;
  readonly workspace?: string;
  readonly name?: string;
};

export function nodeEvents({ log, counter, histogram, gauge }: Telemetry) {
  const created = histogram('torpor_instance_create_ms', 'Time to a usable instance', ['from']);
  const createsFailed = counter('torpor_instance_creates_failed_total', 'Creates that ended in a failure', ['code']);
  const wakes = histogram('torpor_wake_ms', 'From the happening that needs it awake to its resume', ['tier']);
  const leans = histogram('torpor_lean_ms', 'Time of a page-out');
  const leansFailed = counter('torpor_leans_failed_total', 'Page-outs that failed; what is still in RAM stays there');
  const reliefs = counter('torpor_reliefs_total', 'Sleepers paged out before their time because memory was short', []);
  const stores = histogram('torpor_store_ms', 'Time of a store, from its beginning to an image that was read back', [
    'outcome',
  ]);
  const wakesDone = counter('torpor_wakes_total', 'Wakes that ended well: what torpor_lost_state_total is a part of', [
    'tier',
  ]);
  const snapshots = histogram('torpor_snapshot_ms', 'Time of a snapshot, to an image that was read back');
  const snapshotsFailed = counter('torpor_snapshots_failed_total', 'Snapshots that came to nothing');
  const fallBacks = counter('torpor_lost_state_total', 'Wakes that came back to less than was there', ['to']);
  for (const tier of WakeTier.options) wakesDone.add(0, { tier });
  for (const to of Loss.shape.to.options) fallBacks.add(0, { to }); // that nothing was lost is worth reading too
  const receipts = counter('torpor_receipts_total', 'Wakes from disk by what their checks came to', ['verdict']);
  const wakesFailed = counter('torpor_wakes_failed_total', 'Wakes that the driver refused');
  const pauses = histogram('torpor_pause_ms', 'Time of the pause itself', ['because']);
  const pausesFailed = counter('torpor_pauses_failed_total', 'Pauses that the driver refused');
  const deaths = counter('torpor_instances_died_total', 'Instances whose process was found gone');
  const destroyed = counter('torpor_instances_destroyed_total', 'Instances of which nothing is left');
  const destroysFailed = counter('torpor_destroys_failed_total', 'Attempts to destroy that failed and were repeated');
  const turnedAway = counter('torpor_requests_turned_away_total', 'Data-plane requests refused by the engine', [
    'code',
  ]);
  const poolClaims = counter('torpor_pool_claims_total', 'Creates by where their instance came from', ['outcome']);
  const poolDepth = gauge('torpor_pool_depth', 'Instances that wait in a pool', ['template', 'shape']);
  const poolTarget = gauge('torpor_pool_target', 'Instances that a pool should hold', ['template', 'shape']);
  const poolRefills = histogram('torpor_pool_refill_ms', 'Work of adding one instance to a pool', ['template']);
  const poolRefillsFailed = counter('torpor_pool_refills_failed_total', 'Refills that failed', ['template']);
  const memory = gauge('torpor_instances_memory_mib', 'Memory of claimed instances as measured', ['tier', 'where']);
  const instances = gauge('torpor_instances', 'Claimed instances by state', ['state']);
  const requests = counter('torpor_data_requests_total', 'Data-plane requests', ['part', 'status']);
  const requestMs = histogram('torpor_data_request_head_ms', 'From the head of a request to the head of its answer', [
    'part',
    'found',
  ]);
  const heartbeatsFailed = counter('torpor_heartbeats_failed_total', 'Heartbeats that the scheduler did not answer');
  const booked = counter('torpor_usage_intervals_booked_total', 'Metering intervals that the scheduler has booked');

  return {
    unrelieved: (why: { reason: string }) =>
      log.warn('the host is short of memory, and a round to free some failed', why),
    created: (who: Who & { from: string; tookMs: number }) => {
      created.observe(who.tookMs, { from: who.from });
      log.info('instance created', who);
    },
    createFailed: (who: Who & { code: string; reason: string; tookMs: number }) => {
      createsFailed.add(1, { code: who.code });
      log.warn('instance not created', who);
    },
    woke: (who: Who & { tier: WakeTier; tookMs: number; predictedMs: number | undefined }) => {
      wakesDone.add(1, { tier: who.tier });
      wakes.observe(who.tookMs, { tier: who.tier });
      log.debug('instance woke', who);
    },
    wakeFailed: (who: Who & { reason: string }) => {
      wakesFailed.add();
      log.error('instance would not wake', who);
    },
    paused: (who: Who & { tookMs: number; because: string }) => {
      pauses.observe(who.tookMs, { because: who.because });
      log.debug('instance sleeps', who);
    },
    pauseFailed: (who: Who & { reason: string }) => {
      pausesFailed.add();
      log.error('instance would not sleep', who);
    },
    leaned: (who: Who & { tookMs: number; memoryMib: number; swapMib: number }) => {
      leans.observe(who.tookMs);
      log.debug('instance paged out', who);
    },
    leanFailed: (who: Who & { reason: string }) => {
      leansFailed.add();
      log.warn('instance not paged out', who);
    },
    stored: (who: Who & { tookMs: number; bytes?: number | undefined; stallMs?: number | undefined }) => {
      stores.observe(who.tookMs, { outcome: 'stored' });
      log.info('instance stored', who);
    },
    storeCut: (who: Who & { tookMs: number }) => {
      stores.observe(who.tookMs, { outcome: 'cut' });
      log.debug('a store gave way to a wake', who);
    },
    storeFailed: (who: Who & { reason: string; tookMs: number }) => {
      stores.observe(who.tookMs, { outcome: 'failed' });
      log.warn('instance not stored', who);
    },
    /** `tookMs`: until it was sealed and read back; the instance waited `stallMs`. */
    snapshotted: (
      who: Who & { image: string; tookMs: number; bytes?: number | undefined; stallMs?: number | undefined },
    ) => {
      snapshots.observe(who.tookMs);
      log.info('snapshot made', who);
    },
    snapshotFailed: (who: Who & { reason: string }) => {
      snapshotsFailed.add();
      log.error('snapshot not made', who);
    },
    rewound: (who: Who & { image: string; before: string | undefined }) =>
      log.info('instance went back to a snapshot', who),
    rewindFailed: (who: Who & { image: string; reason: string }) =>
      log.error('instance would not go back to a snapshot; it is as it was', who),
    relief: (at: { instanceId: string; freeMib: number }) => {
      reliefs.add(1);
      log.info('memory is short: a sleeper is to sleep deeper', at);
    },
    reliefFailed: (at: { reason: string }) => log.warn('the host could not be relieved', at),
    left: (who: Who & { to: NodeId; bytes: number }) => log.info('instance is ready to live on another node', who),
    leaveFailed: (who: Who & { to: NodeId; reason: string }) =>
      log.warn('instance does not leave; it is as it was', who),
    arrived: (who: Who & { bytes: number; tookMs: number }) => log.info('instance came from another node', who),
    released: (who: Who & { tookMs: number }) => log.info('instance uses no memory any more', who),
    releaseFailed: (who: Who & { reason: string }) => log.warn('memory of a stored instance not let go yet', who),
    imageRefused: (who: Who & { image: string; reason: string }) => log.error('an image will not do', who),
    /** Something that was inside is lost. Never silently. */
    fellBack: (who: Who & Pick<Loss, 'to' | 'reason'>) => {
      fallBacks.add(1, { to: who.to });
      log.error('instance came back without its last state', who);
    },
    volumeHeld: (volume: { volume: string; generation: number; sizeMib: number }) =>
      log.info('volume is there', volume),
    volumeDropped: (volume: { volume: string }) => log.info('volume is gone', volume),
    volumeGiven: (volume: { volume: string; generation: number; instanceId: string; path: string }) =>
      log.info('volume attached', volume),
    volumeTaken: (volume: { volume: string; generation: number; instanceId: string }) =>
      log.info('volume detached', volume),
    untidy: (who: Who & { reason: string }) => log.warn('images not removed yet', who),
    busyUnknown: (who: Who & { reason: string }) => log.warn('guest would not say whether it is busy', who),
    uncounted: (who: Who & { reason: string }) => log.debug('guest would not say what runs', who),
    receipt: (who: Who & Pick<Receipt, 'verdict' | 'tier' | 'tookMs' | 'checks'>) => {
      receipts.add(1, { verdict: who.verdict });
      const isBad = who.verdict === 'flawed' || who.verdict === 'fell back';
      log[isBad ? 'error' : 'info']('a wake from disk was checked', who);
    },
    receiptUnwritten: (who: Who & { reason: string }) => log.error('no receipt of a wake could be kept', who),
    died: (who: Who & { reason: string }) => {
      deaths.add();
      log.error('instance died', who);
    },
    uncheckable: (who: Who & { reason: string }) => log.warn('instance could not be inspected', who),
    destroyed: (who: Who & { reason: string }) => {
      destroyed.add();
      log.info('instance destroyed', who);
    },
    destroyFailed: (who: Who & { reason: string; attempt: number }) => {
      destroysFailed.add();
      log.warn('instance not destroyed yet', who);
    },
    turnedAway: (who: Who & { code: string }) => {
      turnedAway.add(1, { code: who.code });
      log.debug('request turned away', who);
    },
    poolClaim: (outcome: 'hit' | 'miss' | 'half-claimed') => poolClaims.add(1, { outcome }),
    poolDepth: (pool: { template: string; shape: string; depth: number; target: number }) => {
      poolDepth.set(pool.depth, { template: pool.template, shape: pool.shape });
      poolTarget.set(pool.target, { template: pool.template, shape: pool.shape });
    },
    poolRefilled: (pool: { template: string; tookMs: number }) =>
      poolRefills.observe(pool.tookMs, { template: pool.template }),
    poolRefillFailed: (pool: { template: string; reason: string }) => {
      poolRefillsFailed.add(1, { template: pool.template });
      log.warn('pool not refilled', pool);
    },
    instanceCounts: (states: readonly string[]) => {
      for (const state of InstanceState.options) {
        instances.set(states.filter((one) => one === state).length, { state });
      }
    },
    /** Of all that sleep so deep, each minute. */
    memory: (of: { tier: string; ramMib: number; swapMib: number }) => {
      memory.set(of.ramMib, { tier: of.tier, where: 'ram' });
      memory.set(of.swapMib, { tier: of.tier, where: 'swap' });
    },
    adopted: (found: Readonly<Record<string, number>> & { tookMs: number }) => log.info('journal adopted', found),
    strayDestroyed: (stray: { hostId: string; slot: number }) => log.warn('destroyed what no journal knows', stray),
    /** Requests that woke something are worth a line; of the others there are too many. */
    served: (request: {
      instanceId: string;
      part: string;
      status: number;
      found: string;
      heldMs: number;
      headMs: number;
      traceId: string | undefined;
    }) => {
      requests.add(1, { part: request.part, status: String(request.status) });
      requestMs.observe(request.headMs, { part: request.part, found: request.found });
      log[request.found === 'running' ? 'debug' : 'info']('request served', request);
    },
    requestBroke: (who: Who & { part: string; reason: string }) => log.warn('data-plane request broke off', who),
    leaseLost: (at: { instances: number }) => log.error('the lease on this node ended: instances are frozen', at),
    leaseRenewed: (at: { instances: number }) => log.info('the lease on this node holds again', at),
    heartbeatFailed: (at: { reason: string }) => {
      heartbeatsFailed.add();
      log.warn('heartbeat not answered', at);
    },
    unwanted: (who: Who) => log.warn('the scheduler wants this instance no more', who),
    booked: (count: number) => booked.add(count),
    bookingFailed: (at: { reason: string; waiting: number }) => log.warn('usage not booked yet', at),
    usageUnread: (at: { reason: string }) => log.warn('usage counters not read', at),
    usageDropped: (at: { intervals: number }) => log.error('usage dropped: nobody booked it for too long', at),
    bug: (at: { where: string; reason: string }) => log.error('a bug: please report', at),
  };
}
