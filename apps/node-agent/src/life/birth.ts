/** Where a new sandbox comes from: a pool, or cold when no pool has one. The fallback is explicit and counted. */
import { explain } from '@torpor/kernel';
import type { Shape } from '@torpor/contracts';
import type { Claim } from '../journal/index.ts';
import type { Body, Parts, Recipe } from '../parts.ts';
import type { Pools } from '../pools/pools.ts';
import { claimOnHost, createOnHost, newBody, type Made } from './create.ts';
import { destroySurely } from './destroy.ts';

export interface BirthAsk {
  readonly claim: Claim;
  readonly shape: Shape;
  readonly recipe: Recipe;
}

/** `use` is told of each body before anything is done with it, so that whoever cleans up knows where. */
export async function giveBirth(
  parts: Parts,
  pools: Pools,
  ask: BirthAsk,
  use: (body: Body) => void,
  admit: () => Promise<void>,
): Promise<{ made: Made; from: 'pool' | 'cold' }> {
  const pooled = pools.take(ask.recipe.template, ask.shape);
  if (pooled) {
    try {
      use(pooled);
      await claimOnHost(parts, { ...pooled, asleep: true }, ask.claim, ask.recipe);
      return { made: pooled, from: 'pool' };
    } catch (error) {
      parts.events.poolClaim('half-claimed');
      pooled.guest.close();
      void destroySurely(parts, pooled, `half-claimed: ${explain(error)}`);
    }
  }
  await admit();
  const body = newBody(parts);
  use(body);
  const made = await createOnHost(parts, body, { template: ask.recipe.template, shape: ask.shape });
  await claimOnHost(parts, { ...made, asleep: false }, ask.claim, ask.recipe);
  return { made, from: 'cold' };
}
