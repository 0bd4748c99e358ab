import { Failure } from '@torpor/kernel';

/** Nobody listens on the subject. Callers of a sandbox meet a node's restart in these words; the other rooms are the stack's own affair. */
export function unserved(subject: string, cause?: unknown): Failure {
  const node = /^node\.([^.]+)\./.exec(subject)?.[1];
  const message =
    node === undefined
      ? `no room serves ${subject} at present; it may be starting`
      : `the node ${node} cannot be asked just now; try again in a few seconds`;
  return new Failure('unavailable', message, { retryable: true, retryAfterS: 1, cause });
}
