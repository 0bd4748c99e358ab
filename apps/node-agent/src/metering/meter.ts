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
import { explain, KeyedQueue } from '@torpor/kernel';
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
  tier: z.enum(['running', 'paused', 'lean', 'stored']),
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
  /** Points that the last node-agent left open, of instances whose state is not known yet. */
  readonly #left = new Map<string, Point>();
  readonly #changes = new KeyedQueue<string>();
  readonly #beingFollowed = new Set<Promise<void>>();
  #waiting: UsageInterval[] = [];
  #isDirty = false;

  constructor(options: MeterOptions) {
    this.#options = options;
  }

  /** What the last node-agent left, before any instance is taken over: closed intervals wait for their booking, open points for their instances. */
  async recall(): Promise<void> {
    const text = await this.#options.note.read();
    if (text === undefined) return;
    const kept = Kept.parse(JSON.parse(text));
    this.#waiting = kept.waiting;
    for (const point of kept.points) this.#left.set(keyOf(point), point);
  }

  /** The instances have been taken over: whatever else was metered has ended. */
  takenOver(living: Iterable<Instance>): void {
    const alive = new Set([...living].map(({ claim }) => keyOf(claim)));
    for (const [key, point] of this.#left) if (!alive.has(key)) this.#takeUp(point, 'deleted');
  }

  /**
   * An instance's state changed. Never waits: what the host has to say is fetched afterwards, and not at all on the way to a wake. The changes of one
   * instance are followed in their order, however long the host takes over one of them.
   */
  changed({ claim, body, state, past }: Instance): void {
    const wake = past.lastWakeLost ? ('lost' as const) : ('whole' as const);
    const change = { claim, body, state, wake, atMs: this.#options.parts.clock.nowMs() };
    const following = this.#changes.run(keyOf(claim), () => this.#follow(change));
    this.#beingFollowed.add(following);
    void following.finally(() => this.#beingFollowed.delete(following));
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

  /** Keeps everything when every change has been followed: the last of them may tell that the whole node has gone to sleep. */
  async close(): Promise<void> {
    await Promise.all(this.#beingFollowed);
    await this.flush();
  }

  /** Keeps everything as it is now. */
  async flush(): Promise<void> {
    if (!this.#isDirty) return;
    this.#isDirty = false;
    const kept = { points: [...this.#left.values(), ...this.#points.values()], waiting: this.#waiting };
    await this.#options.note.write(JSON.stringify(kept), { durable: true });
  }

  async #follow(change: Change): Promise<void> {
    const { claim, state, atMs } = change;
    const left = this.#left.get(keyOf(claim));
    if (left) return this.#takeUp(left, state);
    const point = this.#points.get(keyOf(claim));
    const tier = tierOf(state);
    if (!point) {
      if (tier) this.#open(change, tier);
    } else if (hasEnded(state)) {
      await this.#end(point, atMs);
    } else if (tier && tier !== point.tier) {
      await this.#turn(point, change, tier);
    } // else between tiers (pausing, waking): the old one goes on
  }

  /**
   * The stretch since a point that was left open is booked as what the instance does now: it can have changed only just before the last node-agent ended.
   * When one that is gone by now ended, nobody knows; the stretch, which may be as long as the host was off, is booked to nobody.
   */
  #takeUp(point: Point, state: InstanceState): void {
    if (state === 'creating') return; // the host has not told yet
    this.#left.delete(keyOf(point));
    if (!hasEnded(state)) this.#points.set(keyOf(point), { ...point, tier: tierOf(state) ?? 'paused' });
    this.#isDirty = true;
  }

  #open({ claim, body, atMs }: Change, tier: Tier): void {
    const { workspace, instanceId, generation } = claim;
    if (!body) return;
    const point = firstPoint(atMs, tier, undefined);
    this.#points.set(keyOf(claim), { workspace, instanceId, generation, hostId: body.hostId, ...point });
    this.#isDirty = true;
  }

  /** To sleep, or awake in a new body: the counters are read as they stand. Awake in the old one: nothing was used meanwhile, so nothing is asked. */
  async #turn(point: Point, { atMs, wake }: Change, tier: Tier): Promise<void> {
    const isWake = tier === 'running';
    const isInPlace = point.tier === 'paused' || point.tier === 'lean';
    const readings = isWake && isInPlace ? undefined : await this.#read([point]);
    const turn = { atMs, tier, reading: readings?.get(point.hostId), ...(isWake ? { wake } : {}) };
    // The minute may have closed this stretch meanwhile, and begun the next.
    this.#close(this.#points.get(keyOf(point)) ?? point, turn);
  }

  /** Its counters may be gone in a moment: read what there still is. */
  async #end(point: Point, atMs: number): Promise<void> {
    this.#points.delete(keyOf(point));
    const readings = await this.#read([point]);
    this.#close(point, { atMs, tier: point.tier, reading: readings.get(point.hostId) }, 'last');
  }

  async #closeAll(): Promise<void> {
    const points = [...this.#points.values()];
    const readings = await this.#read(points.filter(({ tier }) => tier === 'running'));
    const atMs = this.#options.parts.clock.nowMs();
    for (const point of points) {
      const still = this.#points.get(keyOf(point));
      const turn = { atMs, tier: point.tier, reading: readings.get(point.hostId) };
      if (still?.sequence === point.sequence) this.#close(still, turn);
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
    while (this.#waiting.length > 0 && !parts.closing.aborted) {
      const batch = this.#waiting.slice(0, BATCH);
      // Only what has been kept on disk is booked: a crash before the next flush books it again, which counts once.
      await this.flush();
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

/** An instance as it was when its state changed. */
interface Change extends Pick<Instance, 'claim' | 'body' | 'state'> {
  readonly atMs: number;
  /** Whether its last wake, if there was one, brought back everything. */
  readonly wake: NonNullable<UsageInterval['wake']>;
}

function hasEnded(state: InstanceState): boolean {
  return state === 'failed' || state === 'deleting' || state === 'deleted';
}

function tierOf(state: InstanceState): Tier | undefined {
  switch (state) {
    case 'running':
    case 'paused':
    case 'lean':
    case 'stored':
      return state;
    default:
      return undefined;
  }
}

function keyOf({ instanceId, generation }: { instanceId: string; generation: number }): string {
  return `${instanceId}/${generation}`;
}
