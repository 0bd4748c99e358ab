import { blaxelRunError, blaxelRunErrorOf, type BlaxelRefusal } from '@torpor/dialects';
import { Failure } from '@torpor/kernel';

/** A failure in the run plane's shape. A missing key and a bad one are told apart. */
export function runRefusal(error: unknown, nowMs: number): BlaxelRefusal {
  if (error instanceof Failure && error.code === 'unauthenticated' && error.details?.['missing'] === true) {
    return blaxelRunError('AUTHENTICATION_REQUIRED', error.message, { nowMs });
  }
  return blaxelRunErrorOf(error, nowMs);
}
