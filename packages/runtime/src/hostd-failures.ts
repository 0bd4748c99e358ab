import { Failure } from '@torpor/kernel';
import type { FailureCode } from '@torpor/contracts';
import { z } from 'zod';

export const HostdError = z.object({ code: z.string(), message: z.string(), retryable: z.boolean().optional() });

/** hostd's codes in the words of our rooms. A `bad_request` of ours is our bug. hostd's own word stays in `details.hostdCode`. */
const CODES: Readonly<Record<string, FailureCode>> = {
  bad_request: 'internal',
  not_found: 'not_found',
  already_exists: 'conflict',
  busy: 'unavailable',
  no_space: 'no_capacity',
  deadline: 'deadline_exceeded',
  unsupported: 'not_implemented',
  host_error: 'internal',
  gone: 'gone',
  refused: 'unprocessable',
  too_large: 'too_large',
};

/** An image that hostd refuses is damaged; one that it does not find where the journal knows it is as good as that. */
function ofImage(verb: string, code: string): { image: 'damaged' } | undefined {
  const reads = ['sandbox.restore', 'image.read', 'image.verify', 'disk.restore', 'volume.restore'].includes(verb);
  return reads && (code === 'refused' || code === 'not_found') ? { image: 'damaged' } : undefined;
}

export function hostdFailure(verb: string, error: z.infer<typeof HostdError>): Failure {
  return new Failure(CODES[error.code] ?? 'internal', `hostd ${verb}: ${error.message}`, {
    retryable: error.retryable ?? false,
    details: { hostdCode: error.code, verb, ...ofImage(verb, error.code) },
  });
}
