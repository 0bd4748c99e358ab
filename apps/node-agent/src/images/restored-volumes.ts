/** The volumes of an instance that goes on from an image. Pure. */
import type { KeptVolume } from '@torpor/runtime';
import type { HeldVolume } from '../journal/index.ts';

export type BroughtBack =
  | { readonly kind: 'possible'; readonly volumes: readonly KeptVolume[] }
  | { readonly kind: 'refused'; readonly reason: string };

/**
 * `bound`: what the image holds; `held`: what the instance has now. Where the disk is as it is, nothing has changed in its volumes either. Where it goes
 * back to what it was then, so do the volumes that the image holds; those that it got since stay as they are. A volume that it has no more may be somebody
 * else's by now, and memory that knows of it cannot go on without. One that it has again was somebody else's meanwhile, whose files go only when somebody
 * asks to go back to that image.
 */
export function broughtBack(
  bound: readonly HeldVolume[],
  held: readonly HeldVolume[],
  { disk, isAsked }: { readonly disk: 'as-it-is' | 'as-then'; readonly isAsked: boolean },
): BroughtBack {
  const missing = bound.find(({ volume, name }) => !held.some((one) => one.volume === volume && one.name === name));
  if (missing) {
    return {
      kind: 'refused',
      reason: `it holds the volume ${missing.volume} at ${missing.path}, which is attached no more`,
    };
  }
  const changed = bound.find(({ volume, generation }) =>
    held.some((one) => one.volume === volume && one.generation !== generation),
  );
  if (changed && !isAsked) {
    return { kind: 'refused', reason: `the volume ${changed.volume} at ${changed.path} was attached elsewhere since` };
  }
  const isBound = ({ volume }: HeldVolume) => bound.some((one) => one.volume === volume);
  const volumes = held.map((one) => {
    const { volume, name } = one;
    return isBound(one) && disk === 'as-then' ? { volume, name, of: volume } : { volume, name };
  });
  return { kind: 'possible', volumes };
}
