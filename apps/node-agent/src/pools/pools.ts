/**
 * Instances that wait, asleep, for somebody to need them. They have run nothing but the guest; a claim wakes one and gives it an identity.
 * A pool is keyed by what is fixed at boot: template and shape; what an earlier build left in one is not taken over (`life/adoption.ts`). Refilling goes on
 * in the background, below a share of one core.
 */
import type { Shape } from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import { createOnHost, newBody, type Made } from '../life/create.ts';
import { destroySurely } from '../life/destroy.ts';
import type { Parts } from '../parts.ts';
import { refillRestMs, refillYieldMs } from './pacing.ts';

export interface PoolTarget {
  readonly template: string;
  readonly shape: Shape;
  readonly size: number;
}

export interface PoolDepth extends PoolTarget {
  readonly ready: number;
}

interface Pool extends PoolTarget {
  readonly members: Made[];
}

const LOOK_AGAIN_MS = 2_000;
const FAILED_REST_MS = 2_000;

export class Pools {
  readonly #parts: Parts;
  readonly #cpuShare: number;
  readonly #hasRoom: () => boolean;
  readonly #pools = new Map<string, Pool>();
  #nudge: (() => void) | undefined;
  #lastClaimMs = -Infinity;

  constructor(options: { parts: Parts; targets: readonly PoolTarget[]; cpuShare: number; hasRoom: () => boolean }) {
    this.#parts = options.parts;
    this.#cpuShare = options.cpuShare;
    this.#hasRoom = options.hasRoom;
    for (const target of options.targets) {
      const { template } = options.parts.recipeOf(target.template);
      this.#pools.set(keyOf(template, target.shape), { ...target, template, members: [] });
    }
  }

  /** One that sleeps and belongs to nobody any more but the caller. The oldest first. */
  take(template: string, shape: Shape): Made | undefined {
    const pool = this.#pools.get(keyOf(template, shape));
    const made = pool?.members.shift();
    this.#lastClaimMs = this.#parts.clock.monotonicMs();
    this.#parts.events.poolClaim(made ? 'hit' : 'miss');
    if (pool) this.#told(pool);
    this.#nudge?.();
    return made;
  }

  /** Takes over one that the journal knows. False when no pool wants it: the caller destroys it. */
  adopt(made: Made): boolean {
    const pool = this.#pools.get(keyOf(made.template, made.shape));
    if (!pool || pool.members.length >= pool.size) return false;
    pool.members.push(made);
    this.#told(pool);
    return true;
  }

  depths(): readonly PoolDepth[] {
    return [...this.#pools.values()].map(({ template, shape, size, members }) => ({
      template,
      shape,
      size,
      ready: members.length,
    }));
  }

  /** Keeps the pools full until the room closes. */
  async keepFull(): Promise<void> {
    const { clock, closing } = this.#parts;
    while (!closing.aborted) {
      const pool = this.#hasRoom() ? this.#emptiest() : undefined;
      const restMs = pool && this.#cpuShare > 0 ? this.#yieldMs(pool) || (await this.#refill(pool)) : LOOK_AGAIN_MS;
      // With something to refill the rest is our pacing; with nothing, a claim ends it.
      if (pool) await clock.after(restMs, closing).catch(() => {});
      else await this.#rest(restMs);
    }
  }

  #yieldMs(pool: Pool): number {
    const sinceClaimMs = this.#parts.clock.monotonicMs() - this.#lastClaimMs;
    return refillYieldMs({ sinceClaimMs, fill: pool.members.length / pool.size });
  }

  /** Adds one. Answers how long to rest so that the share of the processor is kept. */
  async #refill(pool: Pool): Promise<number> {
    const { clock, events } = this.#parts;
    const since = clock.monotonicMs();
    const fill = pool.members.length / pool.size;
    try {
      const made = await this.#makeAsleep(pool);
      if (made) pool.members.push(made);
    } catch (error) {
      events.poolRefillFailed({ template: pool.template, reason: explain(error) });
      return FAILED_REST_MS;
    }
    const tookMs = clock.monotonicMs() - since;
    events.poolRefilled({ template: pool.template, tookMs });
    this.#told(pool);
    return refillRestMs({ workMs: tookMs, cpuShare: this.#cpuShare, fill });
  }

  async #makeAsleep(pool: Pool): Promise<Made | undefined> {
    const body = newBody(this.#parts);
    try {
      const made = await createOnHost(this.#parts, body, pool);
      // The first call opens the guest's connections, which then outlast the sleep: the claim finds them open.
      await made.guest.json('GET', '/v1/health');
      await this.#parts.driver.pause(made.hostId);
      return made;
    } catch (error) {
      void destroySurely(this.#parts, body, `not fit for a pool: ${explain(error)}`);
      throw error;
    }
  }

  #emptiest(): Pool | undefined {
    const hungry = [...this.#pools.values()].filter((pool) => pool.members.length < pool.size);
    return hungry.sort((a, b) => a.members.length / a.size - b.members.length / b.size)[0];
  }

  async #rest(ms: number): Promise<void> {
    const own = new AbortController();
    const nudged = new Promise<void>((resolve) => {
      this.#nudge = resolve;
    });
    await Promise.race([
      nudged,
      this.#parts.clock.after(ms, AbortSignal.any([own.signal, this.#parts.closing])).catch(() => {}),
    ]);
    own.abort(new Error('no longer waited for'));
  }

  #told(pool: Pool): void {
    const { template, shape, size } = pool;
    this.#parts.events.poolDepth({ template, shape: nameOf(shape), depth: pool.members.length, target: size });
  }
}

function keyOf(template: string, shape: Shape): string {
  return `${template} ${nameOf(shape)}`;
}

function nameOf(shape: Shape): string {
  return `${shape.memoryMib}m-${shape.cpus}c-${shape.diskMib}d-${shape.pids}p`;
}
