/** Tells the scheduler what is, every two seconds and at once when the set of instances changes; hears what is not wanted any more. */
import type { z } from 'zod';
import type { Wire } from '@torpor/bus';
import { heartbeat, type Generation, type InstanceId, type NodeId } from '@torpor/contracts';
import { explain, type Clock } from '@torpor/kernel';
import type { NodeEvents } from '../events.ts';

const EVERY_MS = 2_000;
/** Nothing can be placed here until the scheduler knows of us, so what it did not hear is said again soon. */
const AGAIN_MS = 200;
/** Changes that come together travel together. */
const GATHER_MS = 20;
const ANSWER_MS = 5_000;

export type Beat = z.infer<typeof heartbeat.request>;

export interface HeartbeatOptions {
  readonly wire: Wire;
  readonly clock: Clock;
  readonly events: NodeEvents;
  readonly closing: AbortSignal;
  readonly nodeId: NodeId;
  tell(): Promise<Beat>;
  /** The scheduler answered a beat that was sent at `sentMs` (monotonic). */
  answered(sentMs: number, leaseMs: number): void;
  unwanted(instance: { instanceId: InstanceId; generation: Generation; keep?: string[] | undefined }): void;
}

export class Heartbeat {
  readonly #options: HeartbeatOptions;
  #nudge: (() => void) | undefined;
  #changed = false;
  lastAnswerMs: number | undefined;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
  }

  /** The set has changed: the scheduler should know before its next question. */
  changed(): void {
    this.#changed = true;
    this.#nudge?.();
  }

  async beat(): Promise<void> {
    const { clock, closing } = this.#options;
    while (!closing.aborted) {
      this.#changed = false;
      const wasHeard = await this.#once();
      if (!this.#changed) await this.#rest(wasHeard ? EVERY_MS : AGAIN_MS);
      else await clock.after(GATHER_MS, closing).catch(() => {});
    }
  }

  /** Whether the scheduler has answered. */
  async #once(): Promise<boolean> {
    const { wire, clock, events, closing } = this.#options;
    const sentMs = clock.monotonicMs();
    try {
      const body = await this.#options.tell();
      const { leaseMs, unwanted } = await wire.ask(heartbeat, body, { deadlineMs: ANSWER_MS, signal: closing });
      this.lastAnswerMs = clock.monotonicMs();
      this.#options.answered(sentMs, leaseMs);
      for (const instance of unwanted) this.#options.unwanted(instance);
      return true;
    } catch (error) {
      if (!closing.aborted) events.heartbeatFailed({ reason: explain(error) });
      return false;
    }
  }

  async #rest(ms: number): Promise<void> {
    const { clock, closing } = this.#options;
    const own = new AbortController();
    const nudged = new Promise<void>((resolve) => (this.#nudge = resolve));
    await Promise.race([nudged, clock.after(ms, AbortSignal.any([own.signal, closing])).catch(() => {})]);
    this.#nudge = undefined;
    own.abort(new Error('no longer waited for'));
  }
}
