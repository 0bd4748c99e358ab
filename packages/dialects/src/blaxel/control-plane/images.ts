/** Which template an image name stands for. */

/** Something that sandboxes can be made from, as the dialect names it. */
export interface BlaxelImage {
  /** Without the tag: `blaxel/base-image`, `sandbox/mine`, `mine`. */
  readonly repository: string;
  readonly tags: readonly string[];
  readonly template: string;
}

export type ImageResolution =
  | { readonly kind: 'found'; readonly template: string; readonly image: string }
  | { readonly kind: 'refused'; readonly message: string };

export const DEFAULT_IMAGE = 'blaxel/base-image:latest';

/** The images of a plain installation: the one template that it builds, under the name that the SDK asks for by default. */
export function plainImages(template: string): readonly BlaxelImage[] {
  return [{ repository: 'blaxel/base-image', tags: ['latest'], template }];
}

const REFERENCE =
  /^([a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)(?::([A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?$/;

/** Finds the template. A missing tag means `latest`; `sandbox/x` and `x` are one; `blaxel/` may be left out where no own image has the name. */
export function resolveBlaxelImage(image: string, images: readonly BlaxelImage[]): ImageResolution {
  const parts = image.length <= 255 ? REFERENCE.exec(image) : null;
  if (!parts?.[1]) {
    return {
      kind: 'refused',
      message: `the image name ${JSON.stringify(image.slice(0, 100))} is malformed; expected repository[:tag]`,
    };
  }
  const [, asked, tag = 'latest'] = parts;
  const known = repositoriesOf(asked)
    .map((repository) => images.filter((candidate) => candidate.repository === repository))
    .find((candidates) => candidates.length > 0);
  if (!known) {
    const all = [...new Set(images.map((candidate) => candidate.repository))].join(', ');
    return {
      kind: 'refused',
      message: `the image ${JSON.stringify(asked)} does not exist here; expected one of ${all}`,
    };
  }
  const tagged = known.find((candidate) => candidate.tags.includes(tag));
  if (!tagged) {
    const tags = known.flatMap((candidate) => candidate.tags).join(', ');
    return {
      kind: 'refused',
      message: `the image ${asked} has no tag ${JSON.stringify(tag)}; expected one of ${tags}`,
    };
  }
  return { kind: 'found', template: tagged.template, image: `${tagged.repository}:${tag}` };
}

function repositoriesOf(asked: string): string[] {
  const own = asked.startsWith('sandbox/') ? asked.slice('sandbox/'.length) : asked;
  return [asked, own, `sandbox/${own}`, ...(asked.includes('/') ? [] : [`blaxel/${asked}`])];
}
