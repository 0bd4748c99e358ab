/**
 * What volumes take on disk, attached or not, as use: each minute nodes are asked, and a minute of that is booked. The number of the minute is the
 * interval's, so that several schedulers, or one that was restarted, book it once. A node that does not answer books nothing for that minute.
 */
import {
  describeVolumes,
  Generation,
  InstanceId,
  type NodeId,
  type UsageInterval,
  type VolumeId,
} from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import type { MeteredVolume } from '@torpor/store';
import type { Parts } from '../parts.ts';

const MINUTE_MS = 60_000;
/** In one ask. */
const VOLUMES_MAX = 1_000;

export class VolumeMetering {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Resolves when the room closes. */
  async run(): Promise<void> {
    const { clock, closing, events } = this.#parts;
    while (!closing.aborted) {
      await clock.after(MINUTE_MS - (clock.nowMs() % MINUTE_MS), closing).catch(() => {}); // the loop sees that the room closes
      if (closing.aborted) return;
      await this.once().catch((error: unknown) => events.trouble('metering of volumes', explain(error)));
    }
  }

  async once(): Promise<void> {
    const byNode = new Map<NodeId, MeteredVolume[]>();
    for (const volume of await this.#parts.store.volumes.metered()) {
      byNode.set(volume.nodeId, [...(byNode.get(volume.nodeId) ?? []), volume]);
    }
    await Promise.all([...byNode].map(([nodeId, volumes]) => this.#bookOf(nodeId, volumes)));
  }

  async #bookOf(nodeId: NodeId, volumes: readonly MeteredVolume[]): Promise<void> {
    const { store, clock, events, closing } = this.#parts;
    const sequence = Math.floor(clock.nowMs() / MINUTE_MS) - 1; // the minute that has just ended
    try {
      for (let from = 0; from < volumes.length; from += VOLUMES_MAX) {
        const some = volumes.slice(from, from + VOLUMES_MAX);
        const used = await this.#usedOf(
          nodeId,
          some.map(({ id }) => id),
        );
        const { booked } = await store.usage.book(
          nodeId,
          some.flatMap((volume) => intervalOf(volume, used.get(volume.id), sequence)),
        );
        events.booked(booked);
      }
    } catch (error) {
      if (!closing.aborted) events.trouble('metering of volumes', explain(error));
    }
  }

  async #usedOf(node: NodeId, volumes: VolumeId[]): Promise<Map<VolumeId, number>> {
    const { wire, closing } = this.#parts;
    const { volumes: found } = await wire.ask(describeVolumes, { volumes }, { node, signal: closing });
    return new Map(found.map(({ volume, usedMib }) => [volume, usedMib]));
  }
}

function intervalOf({ id, workspace }: MeteredVolume, usedMib: number | undefined, sequence: number): UsageInterval[] {
  if (usedMib === undefined) return [];
  const fromMs = sequence * MINUTE_MS;
  return [
    {
      workspace,
      instanceId: InstanceId.parse(id), // of one alphabet, and never an instance's
      generation: Generation.parse(1),
      sequence,
      fromMs,
      toMs: fromMs + MINUTE_MS,
      tier: 'volume',
      cpuMs: 0,
      memoryMibMs: 0,
      egressBytes: 0,
      diskMib: usedMib,
    },
  ];
}
