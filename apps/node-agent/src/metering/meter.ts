/** Meters the claimed instances of this node: closes intervals at state changes and each minute, keeps them on disk, and has them booked. */
import type { Wire } from '@torpor/bus';
import {
  bookUsage,
  Generation,
  InstanceId,
  UsageInterval,
  WorkspaceName,
  type InstanceState,
  type NodeId,
} from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import type { InstanceUsage } from '@torpor/runtime';
import { z } from 'zod';
import type { Note } from '../note.ts';
import type { Parts } from '../parts.ts';
import type { Instance } from '../standby/instance.ts';
import { closeInterval, firstPoint, type OpenPoint, type Reading, type Tier } from './intervals.ts';

const MINUTE_MS = 60_000;
const FLUSH_MS = 5_000;
const BATCH = 500;
/** Beyond this many the oldest are let go, loudly: a scheduler that was gone for days must not fill our disk. */
const WAITING_MAX = 200_000;

const Point = z.object({
  workspace: WorkspaceName,
  instanceId: InstanceId,
  generation: Generation,
  hostId: InstanceId,
  sequence: z.number(),
  fromMs: z.number(),
  tier: z.enum(['running', 'paused', 'stored']),
  cpuMs: z.number(),
  memoryMib: z.number(),
  egressBytes: z.number(),
  diskMib: z.number(),
});
type Point = z.infer<typeof Point>;
const Kept = z.object({ points: z.array(Point), waiting: z.array(UsageInterval) });

/** The end of one stretch, and how the next begins. */
interface Turn {
  readonly atMs: number;
  readonly tier: Tier;
  readonly reading?: Reading;
  readonly wake?: UsageInterval['wake'];
}

export interface MeterOptions {
  readonly parts: Parts;
  readonly wire: Wire;
  readonly nodeId: NodeId;
  readonly note: Note;
  /** What the images of an instance take on disk. */
  imageBytes(instanceId: InstanceId): number;
}

export class Meter {
  readonly #options: MeterOptions;
  readonly #points = new Map<string, Point>();
  #waiting: UsageInterval[] = [];
  #isDirty = false;

  constructor(options: MeterOptions) {
    this.#options = options;
  }

  /** What the last node-agent left: open points go on where they were, closed intervals wait for their booking. */
  async recall(living: Iterable<Instance>): Promise<void> {
    const text = await this.#options.note.read();
    const kept = text === undefined ? { points: [], waiting: [] } : Kept.parse(JSON.parse(text));
    this.#waiting = kept.waiting;
    const alive = new Map([...living].map((instance) => [keyOf(instance.claim), instance]));
    for (const point of kept.points) {
      if (alive.has(keyOf(point))) this.#points.set(keyOf(point), point);
      else this.#close(point, { atMs: this.#options.parts.clock.nowMs(), tier: point.tier }, 'last');
    }
    for (const [key, instance] of alive) {
      const tier = tierOf(instance.state);
      const point = this.#points.get(key);
      if (tier && !point) this.#open(instance, tier, undefined);
      // It fell asleep, or its host went down, while no node-agent saw it: in doubt, right after it was seen last.
      else if (tier && point && tier !== point.tier) this.#close(point, { atMs: point.fromMs, tier });
    }
  }

  /** An instance's state changed. Never waits: what the host has to say is fetched afterwards, and not at all on the way to a wake. */
  changed(instance: Instance): void {
    const point = this.#points.get(keyOf(instance.claim));
    const tier = tierOf(instance.state);
    if (!point) {
      if (tier) this.#open(instance, tier, undefined);
      return;
    }
    if (tier === point.tier) return;
    if (instance.state === 'failed' || instance.state === 'deleting') return this.#endMetering(point);
    // Between tiers (pausing, waking) the old one goes on.
    if (tier) this.#turn(instance, point, tier);
  }

  /** Closes what is open, keeps it, has it booked; until the room closes. */
  async run(): Promise<void> {
    const { clock, closing } = this.#options.parts;
    let minute = clock.monotonicMs() + MINUTE_MS;
    while (!closing.aborted) {
      await clock.after(FLUSH_MS, closing).catch(() => {});
      if (closing.aborted) return;
      if (clock.monotonicMs() >= minute) {
        minute += MINUTE_MS;
        await this.#closeAll();
      }
      await this.flush();
      await this.#book();
    }
  }

  /** Keeps everything as it is now. */
  async flush(): Promise<void> {
    if (!this.#isDirty) return;
    this.#isDirty = false;
    const kept = { points: [...this.#points.values()], waiting: this.#waiting };
    await this.#options.note.write(JSON.stringify(kept), { durable: true });
  }

  #open(instance: Instance, tier: Tier, reading: undefined): void {
    const { workspace, instanceId, generation } = instance.claim;
    if (!instance.body) return;
    const point = firstPoint(this.#options.parts.clock.nowMs(), tier, reading);
    const { hostId } = instance.body;
    this.#points.set(keyOf(instance.claim), { workspace, instanceId, generation, hostId, ...point });
    this.#isDirty = true;
  }

  /** To sleep, or awake in a new body: the counters are read as they stand. Awake in the old one: nothing was used meanwhile, so nothing is asked. */
  #turn(instance: Instance, point: Point, tier: Tier): void {
    const atMs = this.#options.parts.clock.nowMs();
    const wake = instance.past.lastWakeLost ? ('lost' as const) : ('whole' as const);
    const turn: Turn = { atMs, tier, ...(tier === 'running' ? { wake } : {}) };
    if (tier === 'running' && point.tier === 'paused') return this.#close(point, turn);
    void this.#readAndClose(point, turn).then(() => this.changed(instance)); // what it did meanwhile
  }

  async #readAndClose(point: Point, turn: Turn): Promise<void> {
    const readings = await this.#read([point]);
    const still = this.#points.get(keyOf(point));
    if (still?.sequence === point.sequence) this.#close(still, { ...turn, reading: readings.get(point.hostId) });
  }

  /** Its counters may be gone in a moment: read what there still is. */
  #endMetering(point: Point): void {
    const atMs = this.#options.parts.clock.nowMs();
    this.#points.delete(keyOf(point));
    void this.#read([point]).then((readings) =>
      this.#close(point, { atMs, tier: point.tier, reading: readings.get(point.hostId) }, 'last'),
    );
  }

  async #closeAll(): Promise<void> {
    const points = [...this.#points.values()];
    const readings = await this.#read(points.filter(({ tier }) => tier === 'running'));
    const atMs = this.#options.parts.clock.nowMs();
    for (const point of points) {
      const still = this.#points.get(keyOf(point));
      const at = { atMs, tier: point.tier, reading: readings.get(point.hostId) };
      if (still?.sequence === point.sequence) this.#close(still, at);
    }
  }

  #close(point: Point, turn: Turn, last?: 'last'): void {
    const { workspace, instanceId, generation, hostId } = point;
    const { interval, next } = closeInterval(point satisfies OpenPoint, { reading: undefined, ...turn });
    this.#waiting.push({ workspace, instanceId, generation, ...interval });
    if (!last) this.#points.set(keyOf(point), { workspace, instanceId, generation, hostId, ...next });
    this.#isDirty = true;
  }

  async #read(points: readonly Point[]): Promise<ReadonlyMap<InstanceId, InstanceUsage>> {
    if (points.length === 0) return new Map();
    try {
      const readings = await this.#options.parts.driver.usage(points.map(({ hostId }) => hostId));
      return new Map(points.flatMap((point) => this.#withImages(point, readings.get(point.hostId))));
    } catch (error) {
      this.#options.parts.events.usageUnread({ reason: explain(error) });
      return new Map();
    }
  }

  #withImages({ instanceId, hostId }: Point, reading: Reading): [InstanceId, InstanceUsage][] {
    if (!reading) return [];
    const imagesMib = this.#options.imageBytes(instanceId) / 2 ** 20;
    const diskMib = reading.diskMib === undefined ? undefined : reading.diskMib + imagesMib;
    return [[hostId, { ...reading, ...(diskMib === undefined ? {} : { diskMib }) }]];
  }

  async #book(): Promise<void> {
    const { wire, nodeId, parts } = this.#options;
    this.#drop();
    // What has been kept on disk is booked; a crash before the next flush books it again, which counts once.
    while (this.#waiting.length > 0 && !parts.closing.aborted) {
      const batch = this.#waiting.slice(0, BATCH);
      try {
        await wire.ask(bookUsage, { nodeId, intervals: batch }, { signal: parts.closing });
      } catch (error) {
        if (!parts.closing.aborted)
          parts.events.bookingFailed({ reason: explain(error), waiting: this.#waiting.length });
        return;
      }
      this.#waiting.splice(0, batch.length);
      this.#isDirty = true;
      parts.events.booked(batch.length);
    }
  }

  #drop(): void {
    const tooMany = this.#waiting.length - WAITING_MAX;
    if (tooMany <= 0) return;
    this.#waiting.splice(0, tooMany);
    this.#options.parts.events.usageDropped({ intervals: tooMany });
  }
}

function tierOf(state: InstanceState): Tier | undefined {
  return state === 'running' || state === 'paused' || state === 'stored' ? state : undefined;
}

function keyOf({ instanceId, generation }: { instanceId: string; generation: number }): string {
  return `${instanceId}/${generation}`;
}
