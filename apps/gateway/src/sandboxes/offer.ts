/** What sandboxes can be made from here: the templates that the fleet has. */
import { plainImages, plainOffer, type BlaxelImage, type BlaxelOffer } from '@torpor/dialects';
import type { Clock } from '@torpor/kernel';
import type { Store } from '@torpor/store';
import { Remembered } from '../ways/remembered.ts';

const BASE = 'blaxel/base-image';

export interface Offers {
  offer(): Promise<BlaxelOffer>;
}

export function openOffers(parts: { store: Store; clock: Clock }): Offers {
  const seen = new Remembered<BlaxelOffer>({
    clock: parts.clock,
    read: async () => plainOffer(imagesOf((await parts.store.fleet.list()).flatMap((node) => node.templates))),
    freshMs: 2_000,
    lifeMs: 10_000,
    missMs: 0,
    graceMs: 600_000,
    entriesMax: 1,
  });
  return { offer: async () => (await seen.get('fleet')) ?? plainOffer(plainImages('base')) };
}

/** Each template and alias is an image of its name. The SDK's default image is there in any case. */
export function imagesOf(templates: readonly string[]): readonly BlaxelImage[] {
  const names = [...new Set(templates)];
  const images = names.map((name) => {
    const [repository = name, tag = 'latest'] = name.split(':');
    return { repository, tags: [tag], template: name };
  });
  if (images.some((image) => image.repository === BASE)) return images;
  return [...images, ...plainImages(names[0] ?? 'base')];
}
