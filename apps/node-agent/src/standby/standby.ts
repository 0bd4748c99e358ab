/** All claimed instances of this node: found by id and generation, started, ended, fenced, adopted. */
import {
  Generation,
  type AttachedVolume,
  type IdlePolicy,
  type InstanceId,
  type InstanceReport,
  type InstanceState,
  type SandboxName,
  type Shape,
  type SnapshotLimits,
  type VolumeId,
  type WakeBudget,
  type WorkspaceName,
} from '@torpor/contracts';
import { explain, Failure, KeyedQueue } from '@torpor/kernel';
import { Births } from '../life/birth.ts';
import { newToken } from '../life/create.ts';
import type { Origin, WokenFork } from '../life/fork.ts';
import { adoptAll } from '../life/adopt.ts';
import type { Claim, Hint, Kept, Shelf } from '../journal/index.ts';
import { arriveOnHost, type ArrivalAsk } from '../moves/arrival.ts';
import type { Body, Parts } from '../parts.ts';
import type { Pools } from '../pools/pools.ts';
import { Instance } from './instance.ts';
import type { Remnant } from './remnant.ts';

export interface StartAsk {
  readonly instanceId: InstanceId;
  readonly generation: Generation;
  readonly workspace: WorkspaceName;
  readonly name: SandboxName;
  readonly template: string;
  readonly shape: Shape;
  readonly env: Readonly<Record<string, string>>;
  readonly idle: IdlePolicy;
  readonly snapshotLimits?: SnapshotLimits | undefined;
  readonly wakeBudget?: WakeBudget | undefined;
  /** Makes it a fork: of the snapshot with this id of an instance that is here. */
  readonly from?: { readonly instanceId: InstanceId; readonly snapshot: string } | undefined;
  /** Mounted before it is answered. A fork's are copies of what the snapshot holds. */
  readonly volumes?: VolumeAsk[] | undefined;
}

interface VolumeAsk extends AttachedVolume {
  readonly copy?: { readonly of: VolumeId; readonly sizeMib: number } | undefined;
}

type From = 'pool' | 'cold' | 'fork';

export interface StandbyOptions {
  readonly parts: Parts;
  /** Claims of pooled instances, and as many cold births besides. */
  readonly birthsAtOnce: number;
  readonly pools: Pools;
  /** Told after each change of an instance's state, and after the last. */
  readonly changed: (instance: Instance, before: InstanceState) => void;
}

export class Standby {
  readonly #parts: Parts;
  readonly #pools: Pools;
  readonly #changed: StandbyOptions['changed'];
  readonly #instances = new Map<InstanceId, Instance>();
  readonly #remnants = new Map<InstanceId, Remnant>();
  readonly #starts = new KeyedQueue<InstanceId>();
  readonly #births: Births;
  #leaseOver = false;

  constructor(options: StandbyOptions) {
    this.#parts = options.parts;
    this.#pools = options.pools;
    this.#changed = options.changed;
    const { parts, pools, birthsAtOnce } = options;
    this.#births = new Births({ parts, pools, atOnce: birthsAtOnce });
  }

  get size(): number {
    return this.#instances.size;
  }

  all(): IterableIterator<Instance> {
    return this.#instances.values();
  }

  find(instanceId: InstanceId): Instance | undefined {
    return this.#instances.get(instanceId);
  }

  reports(): InstanceReport[] {
    return [...this.#instances.values()].map((instance) => instance.report());
  }

  /**
   * Makes this instance at this generation. Asked again, says so; an older generation of it ends first. What the signal finds still waiting for its turn
   * is not begun.
   */
  start(ask: StartAsk, signal?: AbortSignal): Promise<{ from: From | 'existing'; tookMs: number }> {
    const since = this.#parts.clock.monotonicMs();
    return this.#starts.run(ask.instanceId, async () => {
      const known = this.#instances.get(ask.instanceId);
      if (known && known.claim.generation === ask.generation) {
        const from = existing(known);
        await this.#giveMissing(known, ask.volumes ?? []);
        return { from, tookMs: 0 };
      }
      signal?.throwIfAborted();
      if (known) await this.#supersede(known, ask.generation);
      const { from } = await this.#create(ask, since, signal);
      return { from, tookMs: this.#parts.clock.monotonicMs() - since };
    });
  }

  /**
   * Fetches it from another node: it is here, stored, at that generation when this resolves. Asked again, says so; an older stay of it here ends first.
   */
  fetch(ask: ArrivalAsk, signal: AbortSignal): Promise<{ bytes: number; tookMs: number }> {
    const since = this.#parts.clock.monotonicMs();
    return this.#starts.run(ask.instanceId, async () => {
      const known = this.#instances.get(ask.instanceId);
      if (known && known.claim.generation === ask.generation && existing(known)) return { bytes: 0, tookMs: 0 };
      if (known) {
        await this.#supersede(known, ask.generation);
        await known.gone;
      }
      const { claim, body, spec, shelf, hint, bytes } = await arriveOnHost(this.#parts, ask, signal);
      this.#add(claim, body, { hint, shelf }).adoptStored(spec, { lost: undefined, ofItself: false, isComing: false });
      const tookMs = this.#parts.clock.monotonicMs() - since;
      const { instanceId, generation, workspace, name } = claim;
      this.#parts.events.arrived({ instanceId, generation, workspace, name, hostId: body.hostId, bytes, tookMs });
      return { bytes, tookMs };
    });
  }

  /** It was to leave, and lives here after all. */
  async stay(instanceId: InstanceId, generation: Generation): Promise<void> {
    const instance = this.#instances.get(instanceId);
    if (!instance || instance.claim.generation > generation) return;
    await instance.stay();
    if (this.#leaseOver) instance.leaseLost();
  }

  /** Ends it. False when it is not here at that generation or an older one. */
  async stop(
    instanceId: InstanceId,
    generation: Generation,
    reason: string,
    keep: readonly string[] = [],
  ): Promise<boolean> {
    const instance = this.#instances.get(instanceId);
    if (!instance || instance.claim.generation > generation) return false;
    await instance.end(reason, keep);
    return true;
  }

  /** As `at`, or what has outlived it. */
  shelfOf(instanceId: InstanceId, generation: number): Pick<Instance, 'snapshots' | 'shelf'> {
    return this.#remnants.get(instanceId) ?? this.at(instanceId, generation);
  }

  /** Answers the one that is gone, when the space that only it needed is free. */
  async removeSnapshot(instanceId: InstanceId, generation: number, which: string): Promise<Kept> {
    const gone = await this.shelfOf(instanceId, generation).snapshots.remove(which);
    const remnant = this.#remnants.get(instanceId);
    if (!remnant?.isEmpty) return gone;
    this.#remnants.delete(instanceId);
    await remnant.forget();
    return gone;
  }

  /**
   * The instance at that generation. A greater one than is known here is news from the record, where alone it can come from: it is that one from now on.
   * Throws `misdirected` with what is known of an older one.
   */
  at(instanceId: InstanceId, generation: number): Instance {
    const instance = this.#instances.get(instanceId);
    if (instance?.body && instance.claim.generation < generation) instance.raise(Generation.parse(generation));
    if (instance && instance.claim.generation === generation) return instance;
    const knows = instance ? { generation: instance.claim.generation, state: instance.state } : undefined;
    const what = knows ? `holds generation ${knows.generation} of it` : 'does not hold it';
    throw new Failure('misdirected', `instance ${instanceId} generation ${generation}: this node ${what}`, {
      retryable: true,
      details: { knows },
    });
  }

  /** The node's lease ended: nothing of it may run, since it may be placed elsewhere. */
  fence(): void {
    this.#leaseOver = true;
    this.#parts.events.leaseLost({ instances: this.size });
    for (const instance of this.all()) instance.leaseLost();
  }

  unfence(): void {
    this.#leaseOver = false;
    this.#parts.events.leaseRenewed({ instances: this.size });
    for (const instance of this.all()) instance.leaseRenewed();
  }

  get isFenced(): boolean {
    return this.#leaseOver;
  }

  /** After a restart: takes over what the journal and the host know. */
  adopt(): Promise<void> {
    return adoptAll(this.#parts, this.#pools, {
      take: (claim, body, known) => this.#add(claim, body, known),
      leave: (remnant) => void this.#remnants.set(remnant.claim.instanceId, remnant),
    });
  }

  /** Asleep, all that run: in use or not. Resolves when each has been tried; one that will not sleep is told by its own events. */
  async putAllToSleep(): Promise<void> {
    await Promise.all([...this.all()].map((instance) => instance.pause()));
  }

  /** Lets go without touching the host. Resolves when what was under way has ended. */
  async close(): Promise<void> {
    const failure = new Failure('unavailable', 'the node-agent is closing; the sandbox goes on', {
      retryable: true,
      retryAfterS: 1,
    });
    for (const instance of this.all()) instance.abandon(failure);
    await Promise.all([...this.all()].map((instance) => instance.settled()));
  }

  async #supersede(known: Instance, by: Generation): Promise<void> {
    if (known.claim.generation > by) {
      throw new Failure('conflict', `this node holds generation ${known.claim.generation} already, asked was ${by}`);
    }
    await known.end(`superseded by generation ${by}`);
  }

  #create(ask: StartAsk, sinceMs: number, signal: AbortSignal | undefined): Promise<{ from: From }> {
    if (!ask.from) return this.#begin(ask, undefined, sinceMs, signal);
    const { instanceId } = ask.from;
    const parent = this.#instances.get(instanceId) ?? this.#remnants.get(instanceId);
    if (parent?.claim.workspace !== ask.workspace) {
      throw new Failure('not_found', 'the sandbox that the snapshot is of is not on this node');
    }
    return parent.snapshots.lend(ask.from.snapshot, async (snapshot) =>
      this.#begin(ask, originOf(this.#parts, parent, snapshot, ask.volumes ?? []), sinceMs, signal),
    );
  }

  async #begin(
    ask: StartAsk,
    origin: Origin | undefined,
    sinceMs: number,
    signal: AbortSignal | undefined,
  ): Promise<{ from: From }> {
    const parts = this.#parts;
    const recipe = parts.recipeOf(ask.template);
    const { instanceId, generation, workspace, name, idle, wakeBudget, snapshotLimits } = ask;
    const who = { instanceId, generation, workspace, name };
    const env = { ...recipe.env, ...ask.env };
    const sealedEnv = parts.nodeKey.seal(workspace, 'env', Buffer.from(JSON.stringify(env)));
    const policy = { idle, ...(wakeBudget ? { wakeBudget } : {}), ...(snapshotLimits ? { snapshotLimits } : {}) };
    const claim: Claim = { ...who, ...policy, workdir: recipe.workdir, token: newToken(parts.chance), sealedEnv };
    const birth = { claim, shape: ask.shape, recipe: { ...recipe, env }, origin };
    const instance = this.#add(claim, undefined, {});
    let from: From = 'cold';
    let woken: WokenFork | undefined;
    try {
      await instance.make(async (use) => {
        const born = await this.#births.give(birth, use, signal);
        from = born.from;
        woken = born.woken;
        const { hostId, guest } = born.made;
        for (const volume of origin ? [] : (ask.volumes ?? []))
          await parts.volumes.give(volume, { hostId, instanceId, guest });
        return born.made;
      });
    } catch (error) {
      const tookMs = parts.clock.monotonicMs() - sinceMs;
      const code = error instanceof Failure ? error.code : 'internal';
      parts.events.createFailed({ ...who, code, reason: explain(error), tookMs });
      if (!instance.body) await instance.gone; // at once: nothing was begun, and whoever asks again begins anew
      throw error;
    }
    if (woken) await instance.bornOf(woken, sinceMs);
    parts.events.created({ ...who, from, tookMs: parts.clock.monotonicMs() - sinceMs });
    return { from };
  }

  /** The node-agent that made it may have died before it could. */
  async #giveMissing(instance: Instance, volumes: readonly VolumeAsk[]): Promise<void> {
    const { instanceId } = instance.claim;
    for (const volume of volumes) {
      const { doing, holder } = this.#parts.volumes.find(volume.volume) ?? {};
      if (!doing && holder?.instanceId === instanceId) continue;
      await this.give(instance, volume);
    }
  }

  /** Mounted inside when it resolves. */
  async give(instance: Instance, volume: AttachedVolume): Promise<void> {
    const { instanceId } = instance.claim;
    await instance.whileAwake(async (guest) => {
      if (!instance.body) throw new Error('what is awake has a body');
      await this.#parts.volumes.give(volume, { hostId: instance.body.hostId, instanceId, guest });
    });
  }

  /** Nobody has it when it resolves. */
  async take(volume: VolumeId, generation: Generation): Promise<void> {
    const { volumes } = this.#parts;
    const holder = volumes.find(volume)?.holder;
    const instance = holder && this.#instances.get(holder.instanceId);
    if (!holder || instance?.state === 'failed') return await volumes.take(volume, generation, undefined);
    if (!instance) {
      throw new Failure('unavailable', `volume ${volume} is still on its way out of instance ${holder.instanceId}`, {
        retryable: true,
        retryAfterS: 1,
      });
    }
    await instance.whileAwake((guest) => volumes.take(volume, generation, guest));
  }

  #add(claim: Claim, body: Body | undefined, { hint, shelf }: { hint?: Hint | undefined; shelf?: Shelf }): Instance {
    const instance = new Instance({
      parts: this.#parts,
      claim,
      body,
      hint,
      shelf,
      changed: (one, before) => {
        this.#changed(one, before);
        if (before === 'creating' && this.#leaseOver) one.leaseLost();
      },
    });
    this.#instances.set(claim.instanceId, instance);
    void instance.gone.then(() => this.#forget(instance));
    return instance;
  }

  #forget(instance: Instance): void {
    const { instanceId } = instance.claim;
    const { remnant } = instance;
    if (remnant) this.#remnants.set(instanceId, remnant);
    if (this.#instances.get(instanceId) === instance) this.#instances.delete(instanceId);
  }
}

/** A fork is made of what its parent was made of. */
function originOf(
  parts: Parts,
  parent: Pick<Instance, 'spec' | 'claim'>,
  snapshot: Kept,
  asked: readonly VolumeAsk[],
): Origin {
  const { image, volumes: held = [] } = snapshot;
  const { template, shape } = parent.spec;
  const { workspace, token } = parent.claim;
  const volumes = held.map(({ volume: of, name, path }) => {
    const own = asked.find(({ copy }) => copy?.of === of);
    if (!own?.copy)
      throw new Failure('conflict', `the snapshot holds the volume ${of}; the fork was to have no copy of it`);
    return { volume: own.volume, generation: own.generation, name, path, of, sizeMib: own.copy.sizeMib };
  });
  const made = { template, shape, volumes };
  if (!('sealedKey' in snapshot)) return { ...made, kind: 'disk', disk: snapshot };
  const key = parts.nodeKey.open(workspace, image, snapshot.sealedKey);
  return { ...made, kind: 'image', snapshot, key, token, memoryMib: Math.ceil(snapshot.memoryBytes / 2 ** 20) };
}

/** The answer to a start that was asked before. */
function existing(known: Instance): 'existing' {
  if (known.state === 'failed' || known.state === 'deleting' || known.state === 'deleted') {
    const { instanceId, generation } = known.claim;
    throw new Failure(
      'gone',
      `instance ${instanceId} generation ${generation} is ${known.state}: ${known.reason ?? 'it was ended'}`,
    );
  }
  return 'existing';
}
