/** A node as the scheduler meets it: answers its calls from a table, and can be told to refuse, to be slow, to forget or to be away. */
import type { Wire } from '@torpor/bus';
import {
  deleteSnapshot,
  describeInstance,
  describeVolumes,
  dropVolume,
  giveVolume,
  fetchInstance,
  heartbeat,
  holdVolume,
  leaveInstance,
  listSnapshots,
  makeSnapshot,
  nodeFacts,
  NodeId,
  restoreSnapshot,
  setInstancePolicy,
  startInstance,
  stayInstance,
  stopInstance,
  takeVolume,
  type Generation,
  storeInstance,
  type InstanceReport,
  type Make,
  type Snapshot,
} from '@torpor/contracts';
import { Failure, type Clock } from '@torpor/kernel';
import type { VirtualClock } from '@torpor/testkit';
import type { z } from 'zod';

type Start = z.infer<typeof startInstance.request>;

export class FakeNode {
  readonly id: NodeId;
  /** Whom it fetches from. */
  others: readonly FakeNode[] = [];
  readonly instances = new Map<string, InstanceReport & { env: Record<string, string> }>();
  readonly starts: Start[] = [];
  readonly stopped: string[] = [];
  /** Of whom snapshots were asked for. */
  readonly snapshots: string[] = [];
  /** Snapshots that every instance has, by id. */
  readonly kept: string[] = ['one'];
  /** Snapshots that were deleted, by id. */
  readonly dropped: string[] = [];
  /** Which snapshots each stop was to keep. */
  readonly keeps: string[][] = [];
  /** Restores that were asked for, as `<instance>/<generation> <snapshot>`. */
  readonly restored: string[] = [];
  /** Runs before a snapshot is deleted, with the incarnation that was asked for it; may wait or throw. */
  onDrop: (of: string) => Promise<void> = async () => {};
  /** Runs before a restore is heard of; may wait or throw. */
  onRestore: () => Promise<void> = async () => {};
  /** On their way to another node: nothing wakes them. */
  readonly leaving = new Set<string>();
  make: Make = { isolation: 'fake-1', templates: { base: 'base-1' }, cpuFeatures: [] };
  /** Run before a step of a move takes effect; may wait or throw. */
  onLeave: () => Promise<void> = async () => {};
  onFetch: () => Promise<void> = async () => {};
  /** Runs after a fetch took effect, before the answer. */
  onFetched: () => Promise<void> = async () => {};
  onStay: () => Promise<void> = async () => {};
  /** What its instances' snapshots hold. */
  snapshotVolumes: Snapshot['volumes'];
  /** What was asked of it about volumes, as `hold <id> <generation>`. */
  readonly volumeAsks: string[] = [];
  /** Runs before an ask about a volume takes effect; may wait or throw. */
  onVolume: (what: string) => Promise<void> = async () => {};
  /** Runs before a start takes effect; may wait or throw. */
  onStart: (start: Start) => Promise<void> = async () => {};
  /** Runs after a start took effect, before the answer; may wait or throw. */
  onStarted: (start: Start) => Promise<void> = async () => {};
  onStop: () => Promise<void> = async () => {};
  onDescribe: () => Promise<void> = async () => {};
  memoryFreeMib = 6_000;
  diskFreeMib = 50_000;
  /** By their ids; they are found, and cannot be deleted. */
  readonly #made: string[] = [];
  readonly #wire: Wire;
  readonly #clock: Clock;

  constructor(id: string, wire: Wire, clock: Clock) {
    this.id = NodeId.parse(id);
    this.#wire = wire;
    this.#clock = clock;
  }

  async open(): Promise<void> {
    const at = { node: this.id };
    await this.#wire.serve(startInstance, (start) => this.#start(start), at);
    await this.#wire.serve(
      stopInstance,
      async ({ instanceId, generation, keep = [] }) => {
        await this.onStop();
        this.keeps.push(keep);
        this.stopped.push(`${instanceId}/${generation}`);
        return { existed: this.instances.delete(`${instanceId}/${generation}`) };
      },
      at,
    );
    await this.#wire.serve(
      describeInstance,
      async ({ instanceId }) => {
        await this.onDescribe();
        const instance = [...this.instances.values()].find((one) => one.instanceId === instanceId);
        return instance ? { instance } : {};
      },
      at,
    );
    await this.#wire.serve(
      makeSnapshot,
      async ({ instanceId, because, by, name }) => {
        this.snapshots.push(instanceId);
        const id = `of-${instanceId}-${this.snapshots.length}`;
        this.#made.push(id);
        const given = { ...(by ? { by } : {}), ...(name ? { name } : {}) };
        return { snapshot: { ...this.#snapshot(id), because, ...given } };
      },
      at,
    );
    await this.#wire.serve(
      listSnapshots,
      async () => ({ snapshots: [...this.kept, ...this.#made].map((id) => this.#snapshot(id)) }),
      at,
    );
    await this.#wire.serve(
      deleteSnapshot,
      async ({ instanceId, generation, snapshot }) => {
        await this.onDrop(`${instanceId}/${generation}`);
        if (!this.kept.includes(snapshot)) throw new Failure('not_found', `there is no snapshot "${snapshot}"`);
        this.dropped.push(snapshot);
        return { snapshot: this.#snapshot(snapshot) };
      },
      at,
    );
    const about = async (what: string, { volume, generation }: { volume: string; generation: number }) => {
      this.volumeAsks.push(`${what} ${volume} ${generation}`);
      await this.onVolume(what);
      return {};
    };
    await this.#wire.serve(
      describeVolumes,
      async ({ volumes }) => ({ volumes: volumes.map((volume) => ({ volume, usedMib: 5, limitMib: 100 })) }),
      at,
    );
    await this.#wire.serve(holdVolume, (ask) => about('hold', ask), at);
    await this.#wire.serve(dropVolume, (ask) => about('drop', ask), at);
    await this.#wire.serve(giveVolume, ({ volume }) => about('give', volume), at);
    await this.#wire.serve(takeVolume, (ask) => about('take', ask), at);
    await this.#wire.serve(
      restoreSnapshot,
      async ({ instanceId, generation, snapshot }) => {
        await this.onRestore();
        this.#raise(instanceId, generation);
        this.restored.push(`${instanceId}/${generation} ${snapshot}`);
        return { snapshot: this.#snapshot(snapshot), tookMs: 5 };
      },
      at,
    );
    await this.#serveMoves();
    await this.#wire.serve(
      setInstancePolicy,
      async ({ instanceId, generation, idle, wakeBudget }) => {
        this.#raise(instanceId, generation);
        const instance = this.instances.get(`${instanceId}/${generation}`);
        if (!instance) return {};
        const { wakeBudget: _, ...rest } = instance;
        const policy = { idle, ...(wakeBudget ? { wakeBudget } : {}) };
        this.instances.set(`${instanceId}/${generation}`, { ...rest, ...policy });
        return {};
      },
      at,
    );
  }

  #snapshot(id: string): Snapshot {
    const volumes = this.snapshotVolumes ? { volumes: this.snapshotVolumes } : {};
    return { id, because: 'asked', state: 'ready', atMs: this.#clock.nowMs(), ...volumes };
  }

  /** As a node does that hears of a greater generation. */
  #raise(instanceId: string, generation: Generation): void {
    for (const [key, instance] of this.instances) {
      if (instance.instanceId !== instanceId || instance.generation >= generation) continue;
      this.instances.delete(key);
      this.instances.set(`${instanceId}/${generation}`, { ...instance, generation });
    }
  }

  async #serveMoves(): Promise<void> {
    const at = { node: this.id };
    await this.#wire.serve(nodeFacts, async () => ({ make: this.make, key: `key of ${this.id}` }), at);
    await this.#wire.serve(
      leaveInstance,
      async ({ instanceId, generation }) => {
        await this.onLeave();
        if (!this.instances.has(`${instanceId}/${generation}`)) throw new Failure('misdirected', 'it is not here');
        this.leaving.add(`${instanceId}/${generation}`);
        return { bytes: 7 };
      },
      at,
    );
    await this.#wire.serve(
      stayInstance,
      async ({ instanceId, generation }) => {
        await this.onStay();
        this.leaving.delete(`${instanceId}/${generation}`);
        return {};
      },
      at,
    );
    await this.#wire.serve(
      fetchInstance,
      async ({ instanceId, generation, from }) => {
        await this.onFetch();
        const source = this.others.find(({ id }) => id === from.nodeId);
        const there = source?.instances.get(`${instanceId}/${from.generation}`);
        if (!there || !source?.leaving.has(`${instanceId}/${from.generation}`))
          throw new Failure('unavailable', 'it is not ready to leave', { retryable: true });
        this.instances.set(`${instanceId}/${generation}`, { ...there, generation, state: 'stored' });
        await this.onFetched();
        return { bytes: 7, tookMs: 1 };
      },
      at,
    );
    await this.#wire.serve(
      storeInstance,
      async ({ instanceId, generation }) => {
        const key = `${instanceId}/${generation}`;
        const instance = this.instances.get(key);
        if (instance) this.instances.set(key, { ...instance, state: 'stored' });
        return { state: 'stored' as const, tookMs: 1 };
      },
      at,
    );
  }

  /** Beats until it is told to stop, whether it is answered or not. */
  async beatOn(everyMs: number, stop: AbortSignal): Promise<void> {
    while (!stop.aborted) {
      await this.beat().catch(() => {}); // the scheduler may be away
      await this.#clock.after(everyMs, stop).catch(() => {}); // told to stop
    }
  }

  async beat() {
    const answer = await this.#wire.ask(heartbeat, {
      nodeId: this.id,
      url: `http://${this.id}:9`,
      isolation: 'none',
      templates: ['base'],
      capacity: {
        memoryMib: 8_192,
        memoryFreeMib: this.memoryFreeMib,
        diskMib: 60_000,
        diskFreeMib: this.diskFreeMib,
        slotsFree: 100,
      },
      pool: [],
      instances: [...this.instances.values()].map(({ env: _env, ...report }) => report),
    });
    for (const { instanceId, generation } of answer.unwanted) this.instances.delete(`${instanceId}/${generation}`);
    return answer;
  }

  async #start(start: Start) {
    this.starts.push(start);
    await this.onStart(start);
    const { instanceId, generation, workspace, name, env, idle, wakeBudget } = start;
    const key = `${instanceId}/${generation}`;
    const from = this.instances.has(key) ? ('existing' as const) : ('cold' as const);
    this.instances.set(key, {
      instanceId,
      generation,
      workspace,
      name,
      env,
      idle,
      ...(wakeBudget ? { wakeBudget } : {}),
      state: 'running',
      isolation: 'none',
      lastUsedAtMs: this.#clock.nowMs(),
      because: 'request',
    });
    await this.onStarted(start);
    return { from, isolation: 'none' as const, tookMs: 5 };
  }
}

/** Time passes, with all these nodes heard. */
export async function beatAll(nodes: readonly FakeNode[], clock: VirtualClock, ms: number): Promise<void> {
  const stop = new AbortController();
  const beating = nodes.map((node) => node.beatOn(5_000, stop.signal));
  await clock.advance(ms);
  stop.abort();
  await clock.until(Promise.all(beating));
}

/** As `<node>:<name>`. */
export function runningOn(nodes: readonly FakeNode[]): string[] {
  return nodes.flatMap((node) => [...node.instances.values()].map((one) => `${node.id}:${one.name}`));
}
