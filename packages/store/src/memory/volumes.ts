import {
  Generation,
  type InstanceId,
  type NodeId,
  type Volume,
  type VolumeId,
  type WorkspaceName,
} from '@torpor/contracts';
import type { VolumeBook, VolumeFence, VolumeShelf } from '../store.ts';

interface Instances {
  /** Nobody wants it, and its node has confirmed that it cannot run. */
  hasEnded(instanceId: InstanceId): boolean;
  /** It is on its way to another node. */
  isMoving(instanceId: InstanceId): boolean;
  nodeOf(instanceId: InstanceId): NodeId | undefined;
}

/** The rows of all volumes. Each method runs without a pause, as one commit would. */
export class VolumeRows implements VolumeBook {
  readonly #rows = new Map<VolumeId, Volume>();
  readonly #instances: Instances;

  constructor(instances: Instances) {
    this.#instances = instances;
  }

  has(instanceId: InstanceId): boolean {
    return [...this.#rows.values()].some(({ attachment }) => attachment?.instanceId === instanceId);
  }

  shelf(workspace: WorkspaceName): VolumeShelf {
    const mine = () => [...this.#rows.values()].filter((volume) => volume.workspace === workspace);
    return {
      list: async () => mine().sort((a, b) => (a.name < b.name ? -1 : 1)),
      get: async (name) => mine().find((volume) => volume.name === name),
    };
  }

  async insert(volume: Volume): ReturnType<VolumeBook['insert']> {
    const there = await this.find(volume.workspace, volume.name);
    if (there) return { kind: 'taken', volume: there };
    this.#rows.set(volume.id, structuredClone(volume));
    return { kind: 'inserted' };
  }

  async find(workspace: WorkspaceName, name: Volume['name']): Promise<Volume | undefined> {
    return [...this.#rows.values()].find((volume) => volume.workspace === workspace && volume.name === name);
  }

  async becameReady(id: VolumeId, atMs: number): Promise<Volume | undefined> {
    const volume = this.#rows.get(id);
    return volume?.phase === 'creating' ? this.#put({ ...volume, phase: 'ready', updatedAtMs: atMs }) : undefined;
  }

  async resize(id: VolumeId, sizeMib: number, atMs: number): Promise<Volume | undefined> {
    const volume = this.#rows.get(id);
    return volume?.phase === 'ready' ? this.#put({ ...volume, sizeMib, updatedAtMs: atMs }) : undefined;
  }

  async attach(...[id, to, atMs]: Parameters<VolumeBook['attach']>): Promise<Volume | undefined> {
    const volume = this.#rows.get(id);
    if (volume?.phase !== 'ready' || volume.kind !== 'volume' || volume.attachment) return undefined;
    const nodeId = this.#instances.nodeOf(to.instanceId);
    if (this.#instances.isMoving(to.instanceId) || (nodeId ?? volume.nodeId) !== volume.nodeId) return undefined;
    return this.#put(next({ ...volume, attachment: { ...to, state: 'attaching' } }, atMs));
  }

  async attached(fence: VolumeFence, atMs: number): Promise<Volume | undefined> {
    const volume = this.#fenced(fence, 'attaching') ?? this.#fenced(fence, 'detaching');
    if (!volume?.attachment) return undefined;
    return this.#put({ ...volume, attachment: { ...volume.attachment, state: 'attached' }, updatedAtMs: atMs });
  }

  async attachedWith(instanceId: InstanceId, atMs: number): Promise<void> {
    for (const volume of await this.of(instanceId)) {
      if (volume.attachment?.state !== 'attaching') continue;
      const attachment = { ...volume.attachment, state: 'attached' as const };
      this.#put({ ...volume, phase: 'ready', attachment, updatedAtMs: atMs });
    }
  }

  async detach(id: VolumeId, atMs: number): Promise<Volume | undefined> {
    const volume = this.#rows.get(id);
    if (!volume?.attachment) return undefined;
    return this.#put(next({ ...volume, attachment: { ...volume.attachment, state: 'detaching' } }, atMs));
  }

  async detached(fence: VolumeFence, atMs: number): Promise<Volume | undefined> {
    const volume = this.#fenced(fence, 'detaching');
    if (!volume) return undefined;
    const { isForks: _, ...kept } = free(volume);
    return this.#put({ ...kept, updatedAtMs: atMs });
  }

  async release(instanceId: InstanceId, atMs: number): Promise<readonly Volume[]> {
    if (!this.#instances.hasEnded(instanceId)) return [];
    return (await this.of(instanceId)).map((volume) => {
      const phase = volume.isForks ? ('deleting' as const) : volume.phase;
      return this.#put(next({ ...free(volume), phase }, atMs));
    });
  }

  async beginDelete(id: VolumeId, atMs: number): Promise<Volume | undefined> {
    const volume = this.#rows.get(id);
    return volume && !volume.attachment ? this.#put(next({ ...volume, phase: 'deleting' }, atMs)) : undefined;
  }

  async remove(id: VolumeId): Promise<void> {
    if (this.#rows.get(id)?.phase === 'deleting') this.#rows.delete(id);
  }

  async of(instanceId: InstanceId): Promise<readonly Volume[]> {
    const found = [...this.#rows.values()].filter(({ attachment }) => attachment?.instanceId === instanceId);
    return found.sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  async unsettled(beforeMs: number): Promise<readonly Volume[]> {
    const isUnsettled = ({ phase, attachment }: Volume) =>
      phase !== 'ready' ||
      (attachment && (attachment.state !== 'attached' || this.#instances.hasEnded(attachment.instanceId)));
    const found = [...this.#rows.values()].filter((volume) => volume.updatedAtMs < beforeMs && isUnsettled(volume));
    return found.sort((a, b) => a.updatedAtMs - b.updatedAtMs || (a.id < b.id ? -1 : 1));
  }

  async metered(): ReturnType<VolumeBook['metered']> {
    const there = [...this.#rows.values()].filter(({ phase }) => phase === 'ready');
    return there.map(({ id, workspace, nodeId }) => ({ id, workspace, nodeId })).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** Whether the volume is that workspace's, on that node. */
  isOn(id: string, at: Pick<Volume, 'nodeId' | 'workspace'>): boolean {
    return [...this.#rows.values()].some(
      (volume) => volume.id === id && volume.nodeId === at.nodeId && volume.workspace === at.workspace,
    );
  }

  async promised(): ReturnType<VolumeBook['promised']> {
    const sums = new Map<Volume['nodeId'], number>();
    for (const { kind, nodeId, sizeMib } of this.#rows.values()) {
      if (kind === 'volume') sums.set(nodeId, (sums.get(nodeId) ?? 0) + sizeMib);
    }
    return [...sums].sort(([a], [b]) => (a < b ? -1 : 1)).map(([nodeId, sizeMib]) => ({ nodeId, sizeMib }));
  }

  /** The next incarnation of a sandbox has what the one before had. */
  carry(from: InstanceId, to: InstanceId, atMs: number): void {
    for (const volume of this.#rows.values()) {
      if (volume.attachment?.instanceId !== from) continue;
      this.#put(next({ ...volume, attachment: { ...volume.attachment, instanceId: to, state: 'attaching' } }, atMs));
    }
  }

  #fenced({ id, generation }: VolumeFence, state: NonNullable<Volume['attachment']>['state']): Volume | undefined {
    const volume = this.#rows.get(id);
    return volume?.generation === generation && volume.attachment?.state === state ? volume : undefined;
  }

  #put(volume: Volume): Volume {
    this.#rows.set(volume.id, volume);
    return volume;
  }
}

function next(volume: Volume, atMs: number): Volume {
  return { ...volume, generation: Generation.parse(volume.generation + 1), updatedAtMs: atMs };
}

function free(volume: Volume): Volume {
  const { attachment: _, ...rest } = volume;
  return rest;
}
