/**
 * Volumes as somebody asks for them. The row is the record: each change is committed before the node is told, under the volume's next generation where it
 * changes who may write to it, and committed as done when the node has answered. What is left in between is found by `settling.ts`, and done.
 */
import {
  attachVolume,
  createVolume,
  deleteVolume,
  detachVolume,
  dropVolume,
  Generation,
  giveVolume,
  holdVolume,
  newVolumeId,
  resizeVolume,
  takeVolume,
  type Call,
  type Sandbox,
  type Volume,
} from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { placeVolume, type VolumeAsk } from '@torpor/policy';

import type { FleetView } from '../fleet/fleet-view.ts';
import type { Parts } from '../parts.ts';

const SIZE_MIB_DEFAULT = 1024;

type Of<C> = C extends Call<infer Request, infer _> ? Request : never;

export class Volumes {
  readonly #parts: Parts;
  readonly #fleet: FleetView;
  /** Under way in this process: who looks for what was left leaves these alone. */
  readonly #underWay = new Map<string, number>();

  constructor(parts: Parts, fleet: FleetView) {
    this.#parts = parts;
    this.#fleet = fleet;
  }

  isUnderWay({ id }: Volume): boolean {
    return this.#underWay.has(id);
  }

  async create(ask: Of<typeof createVolume>): Promise<Volume> {
    const { store, clock, chance, events } = this.#parts;
    const source = ask.from === undefined ? undefined : await this.#known(ask.workspace, ask.from);
    if (source && source.phase !== 'ready') throw busy(source, `is ${source.phase}`);
    if (ask.kind === 'snapshot' && !source)
      throw new Failure('bad_request', 'a snapshot is one of a volume: say which');
    const sizeMib = ask.sizeMib ?? source?.sizeMib ?? SIZE_MIB_DEFAULT;
    if (source && sizeMib < source.sizeMib) {
      throw new Failure(
        'bad_request',
        `"${source.name}" has ${source.sizeMib} MiB; expected at least that of a copy of it`,
      );
    }
    const isSnapshot = ask.kind === 'snapshot';
    const nodeId = await this.#place(`the volume "${ask.name}" could not be made`, {
      moreMib: isSnapshot ? 0 : sizeMib,
      isCopy: source !== undefined,
      only: source?.nodeId,
    });
    const nowMs = clock.nowMs();
    const volume: Volume = {
      id: newVolumeId(chance),
      workspace: ask.workspace,
      name: ask.name,
      kind: ask.kind,
      sizeMib,
      nodeId,
      generation: Generation.parse(1),
      phase: 'creating',
      ...(source ? { origin: { volume: source.id, name: source.name } } : {}),
      createdAtMs: nowMs,
      updatedAtMs: nowMs,
      createdBy: ask.createdBy,
    };
    const inserted = await store.volumes.insert(volume);
    if (inserted.kind === 'taken') {
      throw new Failure('conflict', `a volume "${ask.name}" exists already in workspace "${ask.workspace}"`);
    }
    return await this.#during(volume, async () => {
      try {
        await this.#tell(holdVolume, volume, { ...fenceOf(volume), sizeMib, ...(source ? { from: source.id } : {}) });
      } catch (error) {
        await store.volumes.beginDelete(volume.id, clock.nowMs()); // it may have begun
        throw error;
      }
      const made = await store.volumes.becameReady(volume.id, clock.nowMs());
      if (!made) throw busy(volume, 'was deleted while it was being made');
      events.volume('made', made);
      return made;
    });
  }

  async resize({ workspace, name, sizeMib }: Of<typeof resizeVolume>): Promise<Volume> {
    const volume = await this.#known(workspace, name);
    if (volume.phase !== 'ready') throw busy(volume, `is ${volume.phase}`);
    if (volume.kind === 'snapshot')
      throw new Failure('bad_request', `"${name}" is a snapshot, which has the size it was made with`);
    const { store, clock, events } = this.#parts;
    if (sizeMib > volume.sizeMib) {
      const what = `the volume "${name}" could not be made larger`;
      await this.#place(what, { moreMib: sizeMib - volume.sizeMib, isCopy: false, only: volume.nodeId });
    }
    return await this.#during(volume, async () => {
      await this.#tell(holdVolume, volume, { ...fenceOf(volume), sizeMib });
      const resized = await store.volumes.resize(volume.id, sizeMib, clock.nowMs());
      if (!resized) throw busy(volume, 'was deleted meanwhile');
      events.volume('resized', resized);
      return resized;
    });
  }

  async delete({ workspace, name }: Of<typeof deleteVolume>): Promise<Volume> {
    const volume = await this.#known(workspace, name);
    const leaving = await this.#parts.store.volumes.beginDelete(volume.id, this.#parts.clock.nowMs());
    if (!leaving) throw attachedTo(await this.#known(workspace, name));
    await this.drop(leaving);
    return leaving;
  }

  /** Of one whose row says so. */
  drop(volume: Volume): Promise<void> {
    return this.#during(volume, async () => {
      await this.#tell(dropVolume, volume, fenceOf(volume));
      await this.#parts.store.volumes.remove(volume.id);
      this.#parts.events.volume('deleted', volume);
    });
  }

  async attach({ workspace, name, sandbox: to, path }: Of<typeof attachVolume>): Promise<Volume> {
    const { store, clock } = this.#parts;
    const sandbox = await store.wanted.living(workspace, to);
    if (!sandbox) throw new Failure('not_found', `there is no sandbox "${to}" in workspace "${workspace}"`);
    const volume = await this.usable(workspace, name);
    const { attachment } = volume;
    if (attachment?.instanceId === sandbox.instanceId && attachment.path === path && attachment.state !== 'detaching') {
      return attachment.state === 'attached' ? volume : await this.give(volume, sandbox); // asked again
    }
    if (volume.nodeId !== sandbox.nodeId) throw apart(volume, sandbox);
    const { instanceId } = sandbox;
    if ((await store.volumes.of(instanceId)).some((other) => other.attachment?.path === path)) {
      throw new Failure('conflict', `the sandbox "${to}" has another volume at ${path}`);
    }
    const given = await store.volumes.attach(volume.id, { instanceId, sandbox: to, path }, clock.nowMs());
    if (!given) {
      const now = await this.#known(workspace, name);
      if (now.attachment) throw attachedTo(now);
      throw busy(now, `could not be attached: it is being deleted, or the sandbox "${to}" goes to another node`);
    }
    return await this.give(given, sandbox);
  }

  /** To the instance that its row names. One that cannot have it has it no more. */
  give(volume: Volume, { instanceId, generation }: Sandbox): Promise<Volume> {
    return this.#during(volume, async () => {
      const { store, clock, events } = this.#parts;
      if (!volume.attachment) throw new Error('a volume is given to nobody');
      const { path } = volume.attachment;
      try {
        const what = { volume: volume.id, generation: volume.generation, path };
        await this.#tell(giveVolume, volume, { instanceId, instanceGeneration: generation, volume: what });
      } catch (error) {
        if (error instanceof Failure && !error.retryable) await this.#takeBack(volume);
        throw error;
      }
      const attached = await store.volumes.attached(volume, clock.nowMs());
      if (!attached) throw busy(volume, 'was detached meanwhile');
      events.volume('attached', attached);
      return attached;
    });
  }

  async detach({ workspace, name }: Of<typeof detachVolume>): Promise<Volume> {
    const volume = await this.#known(workspace, name);
    if (!volume.attachment) return volume;
    const leaving = await this.#parts.store.volumes.detach(volume.id, this.#parts.clock.nowMs());
    return leaving ? await this.take(leaving) : await this.#known(workspace, name);
  }

  /** From the instance that its row names. While something inside uses it, it stays attached. */
  take(volume: Volume): Promise<Volume> {
    return this.#during(volume, async () => {
      const { store, clock, events } = this.#parts;
      try {
        await this.#tell(takeVolume, volume, fenceOf(volume));
      } catch (error) {
        if (error instanceof Failure && !error.retryable) await store.volumes.attached(volume, clock.nowMs());
        throw error;
      }
      const free = await store.volumes.detached(volume, clock.nowMs());
      if (!free) throw busy(volume, 'was changed by somebody else at the same time');
      events.volume('detached', free);
      return free;
    });
  }

  /** A volume, made and no snapshot: what may be attached, or is. */
  async usable(workspace: Volume['workspace'], name: Volume['name']): Promise<Volume> {
    const volume = await this.#known(workspace, name);
    if (volume.kind === 'snapshot') {
      throw new Failure('bad_request', `"${name}" is a snapshot; make a volume from it and attach that`);
    }
    if (volume.phase !== 'ready') throw busy(volume, `is ${volume.phase}`);
    return volume;
  }

  async #takeBack(volume: Volume): Promise<void> {
    const { store, clock, events } = this.#parts;
    const leaving = await store.volumes.detach(volume.id, clock.nowMs());
    if (leaving) await this.take(leaving).catch((error: unknown) => events.volumeTrouble(leaving, error)); // tried again later
  }

  async #known(workspace: Volume['workspace'], name: Volume['name']): Promise<Volume> {
    const volume = await this.#parts.store.volumes.find(workspace, name);
    if (!volume) throw new Failure('not_found', `there is no volume "${name}" in workspace "${workspace}"`);
    return volume;
  }

  async #place(what: string, ask: Omit<VolumeAsk, 'nowMs'>): Promise<Volume['nodeId']> {
    const { store, clock } = this.#parts;
    await this.#fleet.refresh(store);
    const promised = new Map((await store.volumes.promised()).map(({ nodeId, sizeMib }) => [nodeId, sizeMib]));
    const placement = placeVolume(this.#fleet.nodes(), promised, { ...ask, nowMs: clock.nowMs() });
    if (placement.kind === 'placed') return placement.nodeId;
    const message = `${what}: ${placement.reason}`;
    if (placement.why === 'no_space') throw new Failure('no_space', message);
    throw new Failure('unavailable', message, { retryable: true, retryAfterS: 5 });
  }

  #tell<Request>(call: Call<Request, unknown>, { nodeId }: Volume, body: Request): Promise<unknown> {
    return this.#parts.wire.ask(call, body, { node: nodeId, signal: this.#parts.closing });
  }

  async #during<T>({ id }: Volume, work: () => Promise<T>): Promise<T> {
    this.#underWay.set(id, (this.#underWay.get(id) ?? 0) + 1);
    try {
      return await work();
    } finally {
      const left = (this.#underWay.get(id) ?? 1) - 1;
      if (left > 0) this.#underWay.set(id, left);
      else this.#underWay.delete(id);
    }
  }
}

export function attachedTo({ name, attachment }: Volume): Failure {
  const where = attachment ? `is attached to the sandbox "${attachment.sandbox}"` : 'is just being attached or deleted';
  return new Failure('conflict', `the volume "${name}" ${where}; detach it first`);
}

export function apart(volume: Volume, sandbox: Pick<Sandbox, 'name' | 'nodeId'>): Failure {
  const where = `the volume "${volume.name}" is on the node ${volume.nodeId}, and the sandbox "${sandbox.name}" on ${sandbox.nodeId}`;
  return new Failure('unprocessable', `${where}; a sandbox that is created with the volume goes to its node`);
}

function busy({ name }: Volume, how: string): Failure {
  return new Failure('conflict', `the volume "${name}" ${how}`, { retryable: true });
}

function fenceOf({ id, generation }: Volume): { volume: Volume['id']; generation: Volume['generation'] } {
  return { volume: id, generation };
}
