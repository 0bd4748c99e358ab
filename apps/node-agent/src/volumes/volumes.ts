/**
 * The volumes of this node, and who has which. Acts on one volume come one after another, each journaled; an act with an older generation than the last
 * comes too late and is refused. What an act of a node-agent that was killed had begun is done again where that needs nobody: making, sizing, dropping.
 * Giving and taking need the instance's guest, and are asked for again by whoever wanted them; until then the volume counts as given.
 */
import type { AttachedVolume, Generation, InstanceId, VolumeId } from '@torpor/contracts';
import { explain, Failure, KeyedQueue, withDeadline, type Clock } from '@torpor/kernel';
import type { Guest, InstanceDriver, Step, VolumeUsage } from '@torpor/runtime';
import type { NodeEvents } from '../events.ts';
import { volumeAfter, type HeldVolume, type Journal, type VolumeAct, type VolumeEntry } from '../journal/index.ts';
import { mountAt, unmountFrom } from './mounts.ts';

/** How long a volume that is still on its way out of another instance is waited for. */
const LEAVE_MS = 20_000;

export interface VolumesOptions {
  readonly driver: InstanceDriver;
  /** Of volumes alone. */
  readonly journal: Journal;
  readonly clock: Clock;
  readonly events: NodeEvents;
}

/** The instance that is to have a volume. */
export interface Taker {
  readonly hostId: InstanceId;
  readonly instanceId: InstanceId;
  readonly guest: Guest;
}

export class Volumes {
  readonly #options: VolumesOptions;
  readonly #entries = new Map<VolumeId, VolumeEntry>();
  readonly #acts = new KeyedQueue<VolumeId>();
  /** Called when an instance has let go of what it had. */
  readonly #leaving = new Set<() => void>();

  constructor(options: VolumesOptions) {
    this.#options = options;
  }

  /** What the last node-agent knew; before any instance is taken over. */
  async recall(): Promise<void> {
    for (const entry of await this.#options.journal.readVolumes()) this.#entries.set(entry.volume, entry);
  }

  /** Ends what was begun and needs no instance. One that fails now is asked for again. */
  async settle(): Promise<void> {
    const begun = [...this.#entries.values()].flatMap(({ volume, doing }) => (doing ? [{ volume, doing }] : []));
    await Promise.all(
      begun.map(async ({ volume, doing }) => {
        try {
          if (doing.operation === 'volume.hold') await this.hold({ volume, ...doing });
          if (doing.operation === 'volume.drop') await this.drop(volume, doing.generation);
        } catch (error) {
          this.#options.events.untidy({ reason: `volume ${volume}: ${explain(error)}` });
        }
      }),
    );
  }

  all(): IterableIterator<VolumeEntry> {
    return this.#entries.values();
  }

  find(volume: VolumeId): VolumeEntry | undefined {
    return this.#entries.get(volume);
  }

  /** What an instance has, as its images must know it. */
  of(hostId: InstanceId): HeldVolume[] {
    return [...this.#entries.values()].flatMap(({ volume, sizeMib, holder }) => {
      if (holder?.hostId !== hostId) return [];
      const { generation, name, path } = holder;
      return [{ volume, generation, name, path, sizeMib }];
    });
  }

  /** There is one of this size when it resolves. */
  hold(ask: { volume: VolumeId; generation: Generation; sizeMib: number; from?: VolumeId | undefined }): Promise<void> {
    const { volume, generation, sizeMib, from } = ask;
    return this.#acts.run(volume, async () => {
      const known = this.#current(volume, generation);
      await this.#assertFits(ask, known);
      const act = { operation: 'volume.hold', generation, sizeMib, ...(from === undefined ? {} : { from }) } as const;
      const steps = this.#options.driver.volumeSteps({ volume, sizeMib, ...(from === undefined ? {} : { from }) });
      await this.#carryOut(volume, act, steps);
      this.#options.events.volumeHeld({ volume, generation, sizeMib });
    });
  }

  /** Nothing is left of it when it resolves. Whoever has it still must be on its way to its end. */
  drop(volume: VolumeId, generation: Generation): Promise<void> {
    return this.#acts.run(volume, async () => {
      this.#current(volume, generation);
      await this.#untilFree(volume);
      const steps = this.#options.driver.dropVolumeSteps({ volume });
      await this.#carryOut(volume, { operation: 'volume.drop', generation }, steps);
      await this.#options.journal.forgetVolume(volume);
      this.#entries.delete(volume);
      this.#options.events.volumeDropped({ volume });
    });
  }

  /** It is mounted inside when it resolves. The taker must be awake, and stay so. */
  give({ volume, generation, path }: AttachedVolume, taker: Taker): Promise<void> {
    return this.#acts.run(volume, async () => {
      const { hostId, instanceId, guest } = taker;
      this.#current(volume, generation);
      await this.#untilFree(volume, hostId);
      const known = this.#current(volume, generation);
      const isGiven = known?.holder?.hostId === hostId && known.holder.path === path;
      if (isGiven && known.generation === generation && !known.doing) return;
      const name = isGiven ? known.holder.name : volume;
      const to = { hostId, instanceId, name, path };
      const steps = this.#options.driver.attachSteps({ instanceId: hostId, volume, name });
      await this.#carryOut(volume, { operation: 'volume.give', generation, to }, steps, () => mountAt(guest, to));
      this.#options.events.volumeGiven({ volume, generation, instanceId, path });
    });
  }

  /**
   * Nobody has it when it resolves. `inside`: how to reach the guest that has it, which must be awake, and stay so; `undefined`: nothing of that instance
   * will ever run again.
   */
  take(volume: VolumeId, generation: Generation, inside: Guest | undefined): Promise<void> {
    return this.#acts.run(volume, async () => {
      const known = this.#current(volume, generation);
      if (!known?.holder) return;
      const { holder } = known;
      if (inside) await unmountFrom(inside, holder);
      const steps = this.#options.driver.detachSteps({ instanceId: holder.hostId, volume, name: holder.name });
      await this.#carryOut(volume, { operation: 'volume.take', generation }, steps);
      this.#options.events.volumeTaken({ volume, generation, instanceId: holder.instanceId });
      this.#tellLeft();
    });
  }

  /** The copies that a fork is made with: written down before the steps that make them, with it. */
  async expectCopies(copies: readonly Copy[], of: { hostId: InstanceId; instanceId: InstanceId }): Promise<void> {
    for (const { volume, generation, name, path, sizeMib } of copies) {
      const to = { ...of, name, path };
      await this.#write(volume, { operation: 'volume.give', generation, to, sizeMib });
    }
  }

  async copiesMade(copies: readonly Copy[]): Promise<void> {
    for (const { volume } of copies) await this.#settled(volume, 'done');
  }

  /** Nothing of the instance is left on the host, which has taken back what it had. */
  async left(hostId: InstanceId): Promise<void> {
    for (const { volume } of this.of(hostId)) await this.#settled(volume, 'left');
    this.#tellLeft();
  }

  /** Of those of these that exist. */
  usage(volumes: readonly VolumeId[]): Promise<ReadonlyMap<VolumeId, VolumeUsage>> {
    return this.#options.driver.volumeUsage(
      volumes.map((volume) => {
        const holder = this.#entries.get(volume)?.holder;
        return { volume, at: holder && { instanceId: holder.hostId, name: holder.name } };
      }),
    );
  }

  /** The volume as far as it is known here. Throws when somebody has asked for something later already. */
  #current(volume: VolumeId, generation: Generation): VolumeEntry | undefined {
    const known = this.#entries.get(volume);
    if (!known || known.generation <= generation) return known;
    throw new Failure(
      'conflict',
      `volume ${volume} is at generation ${known.generation} here; what was asked with ${generation} comes too late`,
    );
  }

  async #assertFits(
    { volume, sizeMib, from }: { volume: VolumeId; sizeMib: number; from?: VolumeId | undefined },
    known: VolumeEntry | undefined,
  ): Promise<void> {
    if (known && !known.doing && sizeMib < known.sizeMib) {
      const usedMib = (await this.usage([volume])).get(volume)?.usedMib ?? 0;
      if (usedMib <= sizeMib) return;
      throw new Failure('conflict', `it holds ${usedMib} MiB; expected a size of at least that, or fewer files in it`);
    }
    if (from !== undefined) return; // a copy takes no space but for what is written to it
    const moreMib = sizeMib - (known && !known.doing ? known.sizeMib : 0);
    const { diskFreeMib } = await this.#options.driver.capacity();
    if (moreMib <= diskFreeMib) return;
    throw new Failure(
      'no_space',
      `${moreMib} MiB more are needed, and the node has ${Math.floor(diskFreeMib)} MiB of disk free`,
    );
  }

  /** Another instance may be on its way to its end, or may not have heard of it yet. */
  async #untilFree(volume: VolumeId, hostId?: InstanceId): Promise<void> {
    const other = () => {
      const holder = this.#entries.get(volume)?.holder;
      return holder?.hostId === hostId ? undefined : holder?.instanceId;
    };
    const { clock } = this.#options;
    const free = async () => {
      while (other() !== undefined) await this.#nextLeft();
    };
    const has = other();
    if (has !== undefined)
      await withDeadline({ name: `volume ${volume} leaves instance ${has}`, ms: LEAVE_MS, clock }, free);
  }

  #nextLeft(): Promise<void> {
    return new Promise((resolve) => {
      this.#leaving.add(resolve);
    });
  }

  #tellLeft(): void {
    const waiting = [...this.#leaving];
    this.#leaving.clear();
    for (const resolve of waiting) resolve();
  }

  async #carryOut(
    volume: VolumeId,
    act: VolumeAct,
    steps: readonly Step[],
    inside: () => Promise<void> = async () => {},
  ): Promise<void> {
    const { journal } = this.#options;
    const { intent, line } = await journal.intendVolume(volume, act, steps);
    this.#follow(volume, line);
    await journal.carryOut(intent, steps);
    await inside();
    if (act.operation !== 'volume.drop') await this.#settled(volume, 'done');
  }

  async #write(volume: VolumeId, act: VolumeAct): Promise<void> {
    this.#follow(volume, (await this.#options.journal.intendVolume(volume, act, [])).line);
  }

  async #settled(volume: VolumeId, kind: 'done' | 'left'): Promise<void> {
    const operation = this.#entries.get(volume)?.doing?.operation ?? kind;
    this.#follow(volume, await this.#options.journal.volumeSettled(volume, kind, operation));
  }

  #follow(volume: VolumeId, line: Parameters<typeof volumeAfter>[2]): void {
    const entry = volumeAfter(volume, this.#entries.get(volume), line);
    if (entry) this.#entries.set(volume, entry);
  }
}

/** A volume that a fork has of its own, of what its parent's snapshot holds as `of`. */
export interface Copy extends HeldVolume {
  readonly of: VolumeId;
}
