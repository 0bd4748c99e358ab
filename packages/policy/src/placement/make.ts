/** Whether what slept on one node can wake on another: the same isolation, the same layers, and at least the same processor. */
import type { Make } from '@torpor/contracts';

/** What the other node is missing; nothing: it can wake there. */
export function missingAt(there: Make, here: Make, template: string): string[] {
  const features = here.cpuFeatures.filter((feature) => !there.cpuFeatures.includes(feature));
  return [
    ...(there.isolation === here.isolation ? [] : [`the isolation "${here.isolation}" (it has "${there.isolation}")`]),
    ...layersMissing(there.templates[template], here.templates[template], template),
    ...(features.length === 0 ? [] : [`the processor features ${features.join(', ')}`]),
  ];
}

function layersMissing(there: string | undefined, here: string | undefined, template: string): string[] {
  if (there === undefined) return [`the template "${template}"`];
  return there === here ? [] : [`the layers of the template "${template}" (${here ?? 'unknown'}; it has ${there})`];
}
