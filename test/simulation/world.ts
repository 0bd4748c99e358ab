/** The rooms of several boxes in one process: one scheduler or two, node-agents on fake hosts, one record, one bus, one clock that only the story moves. */
import { MemoryBus } from '@torpor/bus';
import { NodeId, type Shape } from '@torpor/contracts';
import { Failure, seededChance, withDeadline, type Chance } from '@torpor/kernel';
import { MemoryJournalStore, memoryNote, nodeAgent, NodeKey, type NodeAgent } from '@torpor/node-agent';
import { fakeDriver, FakeHost, type Guest } from '@torpor/runtime';
import { openScheduler, type Scheduler } from '@torpor/sandbox-scheduler';
import { memoryStore, type Store } from '@torpor/store';
import { silentTelemetry } from '@torpor/telemetry';
import { VirtualClock } from '@torpor/testkit';
import { Room, type Stage } from './room.ts';
import { Story } from './story.ts';
import { drawTrouble } from './trouble.ts';

export const SHAPE: Shape = { memoryMib: 512, cpus: 1, diskMib: 1_024, pids: 256 };
const OF_INSTANCES = ['create', 'destroy', 'boot', 'store', 'release', 'restore', 'forget'];
const OF_VOLUMES = ['volume', 'dropVolume', 'attach', 'detach'];
const STEPS = [...OF_INSTANCES, ...OF_VOLUMES].map((what) => `${what}Steps`);
const DRIVER_SYNC = [...STEPS, 'handle', 'guest', 'close', 'covers'];
const HTTP_MS = 20_000;

export interface Box {
  readonly id: NodeId;
  readonly host: FakeHost;
  readonly journal: MemoryJournalStore;
  readonly agent: Room<NodeAgent>;
}

export class World implements Stage {
  readonly clock = new VirtualClock();
  readonly story = new Story(this.clock);
  readonly chance: Chance;
  readonly trouble;
  readonly bus: MemoryBus;
  readonly store: Store = memoryStore();
  /** Two share the work: any of them may get any ask. */
  readonly schedulers: readonly Room<Scheduler>[];
  readonly boxes: readonly Box[];

  constructor(seed: number) {
    this.chance = seededChance(seed);
    this.trouble = drawTrouble(this.#fork());
    this.bus = new MemoryBus({ clock: this.clock, fates: this.trouble.fates });
    this.schedulers = ['scheduler', 'scheduler-2']
      .slice(0, 1 + Math.floor(this.chance.fraction() * 2))
      .map((name) => this.#schedulerRoom(name));
    this.boxes = ['a', 'b', 'c']
      .slice(0, 1 + Math.floor(this.chance.fraction() * 3))
      .map((id) => this.#box(NodeId.parse(id)));
  }

  async open(): Promise<void> {
    for (const room of this.rooms()) void room.start(); // one that dies at once is started again
    await this.clock.untilTrue(() => this.rooms().every((room) => room.living !== undefined));
    await this.clock.advance(5_000);
  }

  rooms(): (Room<Scheduler> | Room<NodeAgent>)[] {
    return [...this.schedulers, ...this.boxes.map((box) => box.agent)];
  }

  box(id: NodeId): Box {
    const box = this.boxes.find((one) => one.id === id);
    if (!box) throw new Error(`there is no box ${id}`);
    return box;
  }

  /** A request on a node's data plane, with the network's own troubles: refused while the node is down, or hanging until it is given up. */
  async reach<T>(
    id: NodeId,
    target: { instanceId: string; generation: number },
    use: (guest: Guest) => Promise<T>,
  ): Promise<T> {
    const timer = { name: `request to node ${id}`, ms: HTTP_MS, clock: this.clock };
    return withDeadline(timer, async (signal) => {
      await this.clock.after(this.chance.fraction() * 2, signal);
      const agent = this.box(id).agent.living;
      if (!agent) throw new Failure('unavailable', `node ${id} refuses connections`, { retryable: true });
      // Ids on the wire are the agent's own, so its brand is theirs.
      const stay = await agent.standby.at(target.instanceId as never, target.generation).enter('request', signal);
      try {
        return await use(stay.guest);
      } finally {
        stay.leave();
      }
    });
  }

  /** A chance of its own for each part, so that one part's draws do not shift another's. */
  #fork(): Chance {
    return seededChance(Math.floor(this.chance.fraction() * 2 ** 32));
  }

  #schedulerRoom(name: string): Room<Scheduler> {
    const base = this.chance.fraction() * 2 ** 31;
    return new Room(name, this, ({ lend, wire, clock, number }) =>
      openScheduler({
        store: lend(this.store, { sync: ['workspace'], weight: 4 }),
        wire,
        clock,
        chance: seededChance(base + number),
        telemetry: silentTelemetry(),
      }),
    );
  }

  #box(id: NodeId): Box {
    const latency = this.#fork();
    const quick = [0.5, 4] as const;
    const latencyMs = {
      'disk.create': quick,
      'net.create': quick,
      'sandbox.create': [20, 200],
      'sandbox.pause': quick,
      'sandbox.resume': quick,
      'sandbox.delete': [5, 60],
      'image.save': [20, 300],
      'image.verify': [20, 300],
      'sandbox.restore': [50, 200],
    } as const;
    const host = new FakeHost({ clock: this.clock, chance: latency, latencyMs });
    const [journal, volumeJournal] = [new MemoryJournalStore(), new MemoryJournalStore()];
    const notes = { lease: memoryNote(), metering: memoryNote() };
    const base = this.chance.fraction() * 2 ** 31;
    const agent = new Room<NodeAgent>(id, this, ({ lend, wire, clock, number }) =>
      nodeAgent({
        nodeId: id,
        url: `http://${id}`,
        isolation: 'none',
        dataKey: 'key',
        pools: [{ template: 'base', shape: SHAPE, size: 2 }],
        refillCpuShare: 0.5,
        nodeKey: new NodeKey(new Uint8Array(32)),
        leanAfterMs: 8_000,
        swap: 'auto',
        storeAfterMs: 20_000,
        snapshotPolicy: { automaticMax: 3 },
        birthsAtOnce: 4,
        recipeOf: (template) => ({ template, workdir: '/blaxel', user: 'root', env: {} }),
        clock,
        chance: seededChance(base + number),
        wire,
        driver: lend(fakeDriver(host), { sync: DRIVER_SYNC }),
        telemetry: silentTelemetry(),
        journalStore: lend(journal),
        volumeStore: lend(volumeJournal),
        notes: { lease: lend(notes.lease), metering: lend(notes.metering) },
      }),
    );
    return { id, host, journal, agent };
  }
}
