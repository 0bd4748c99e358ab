/** Where a new sandbox comes from: a pool, or cold when no pool has one. The fallback is explicit and counted. */
import { explain, Turns } from '@torpor/kernel';
import type { Shape } from '@torpor/contracts';
import type { Claim } from '../journal/index.ts';
import type { Body, Parts, Recipe } from '../parts.ts';
import type { Pools } from '../pools/pools.ts';
import { claimOnHost, createOnHost, newBody, type Made } from './create.ts';
import { destroySurely } from './destroy.ts';
import { forkOnHost, type Origin, type WokenFork } from './fork.ts';

export interface BirthAsk {
  readonly claim: Claim;
  readonly shape: Shape;
  readonly recipe: Recipe;
  /** Of a fork. */
  readonly origin?: Origin | undefined;
}

/** Told of each body before anything is done with it, so that whoever cleans up knows where; `undefined`: that one is no longer theirs to clean up. */
export type UseBody = (body: Body | undefined) => void;

export interface BirthsOptions {
  readonly parts: Parts;
  readonly pools: Pools;
  /** Of a hundred asked for at once the first are ready soon: all side by side, each would be ready when the last one is. */
  readonly atOnce: number;
}

export class Births {
  readonly #parts: Parts;
  readonly #pools: Pools;
  /** Apart, so that what is ready waits for nobody's cold birth. */
  readonly #claims: Turns;
  readonly #cold: Turns;

  constructor({ parts, pools, atOnce }: BirthsOptions) {
    this.#parts = parts;
    this.#pools = pools;
    this.#claims = new Turns(atOnce);
    this.#cold = new Turns(atOnce);
  }

  /** An ask whose signal aborts before its turn is not begun; one that has begun goes on. */
  async give(
    ask: BirthAsk,
    use: UseBody,
    signal?: AbortSignal,
  ): Promise<{ made: Made; from: 'pool' | 'cold' | 'fork'; woken?: WokenFork }> {
    const { origin } = ask;
    if (origin) {
      const forked = await this.#cold.run(() => this.#fromSnapshot(ask, origin, use), signal);
      return { ...forked, from: 'fork' };
    }
    const pooled = await this.#claims.run(() => this.#fromPool(ask, use), signal);
    if (pooled) return { made: pooled, from: 'pool' };
    return { made: await this.#cold.run(() => this.#fromNothing(ask, use), signal), from: 'cold' };
  }

  async #fromPool(ask: BirthAsk, use: UseBody): Promise<Made | undefined> {
    const pooled = this.#pools.take(ask.recipe.template, ask.shape);
    if (!pooled) return undefined;
    try {
      use(pooled);
      await claimOnHost(this.#parts, { ...pooled, asleep: true }, ask.claim, ask.recipe);
      return pooled;
    } catch (error) {
      this.#parts.events.poolClaim('half-claimed');
      pooled.guest.close();
      use(undefined); // Destroyed here and now: twice, and the second time might find its slot's next owner.
      void destroySurely(this.#parts, pooled, `half-claimed: ${explain(error)}`);
      return undefined;
    }
  }

  async #fromNothing(ask: BirthAsk, use: UseBody): Promise<Made> {
    await this.#parts.admission.admit();
    const body = newBody(this.#parts);
    use(body);
    const made = await createOnHost(this.#parts, body, { template: ask.recipe.template, shape: ask.shape });
    await claimOnHost(this.#parts, { ...made, asleep: false }, ask.claim, ask.recipe);
    return made;
  }

  async #fromSnapshot(ask: BirthAsk, origin: Origin, use: UseBody) {
    await this.#parts.admission.admit(origin.kind === 'image' ? origin.memoryMib : undefined);
    const body = newBody(this.#parts);
    use(body);
    const { instanceId } = ask.claim;
    const forked = await forkOnHost(this.#parts, body, { ...origin, instanceId });
    await claimOnHost(this.#parts, { ...forked.made, asleep: false, isFork: true }, ask.claim, ask.recipe);
    return forked;
  }
}
