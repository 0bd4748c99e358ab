import { explain, Failure } from '@torpor/kernel';
import { createOnHost, newBody } from '../life/create.ts';
import { destroySurely } from '../life/destroy.ts';
import type { Spec } from '../journal/index.ts';
import type { Parts } from '../parts.ts';

/**
 * Makes a sandbox that has run nothing, and takes it away again: how long it took until its guest answered, ms. Throws, as what may be tried another time,
 * when that cannot be done: then the host is in trouble, and `trouble` says nothing about an image.
 */
export async function freshAnswersAfterMs(
  parts: Parts,
  { template, shape }: Pick<Spec, 'template' | 'shape'>,
  trouble: unknown,
): Promise<number> {
  const sinceMs = parts.clock.monotonicMs();
  try {
    await parts.admission.admit();
    const body = newBody(parts);
    try {
      const { guest } = await createOnHost(parts, body, { template, shape });
      guest.close();
      return parts.clock.monotonicMs() - sinceMs;
    } finally {
      void destroySurely(parts, body, 'it was made to see whether this host is well');
    }
  } catch (second) {
    const message = `${explain(trouble)}; this host is in trouble, for a fresh sandbox does no better: ${explain(second)}`;
    throw new Failure('unavailable', message, { retryable: true, cause: trouble });
  }
}
