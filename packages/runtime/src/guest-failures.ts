import { Failure } from '@torpor/kernel';
import type { FailureCode } from '@torpor/contracts';
import { z } from 'zod';

const GuestError = z.object({ error: z.object({ code: z.string(), message: z.string() }) });

/** The guest's codes (packages/guest/PROTOCOL.md) in the words of our rooms. The guest's own word stays in `details.guestCode`. */
const CODES: Readonly<Record<string, FailureCode>> = {
  bad_request: 'bad_request',
  unauthorized: 'unauthenticated',
  not_found: 'not_found',
  exists: 'conflict',
  conflict: 'conflict',
  too_large: 'too_large',
  not_empty: 'unprocessable',
  failed: 'unprocessable',
  no_space: 'no_space',
  internal: 'internal',
};

/** What a guest's answer of status ≥ 400 means to the caller. */
export function guestFailure(call: string, status: number, body: string): Failure {
  const parsed = GuestError.safeParse(parseJson(body));
  if (!parsed.success) {
    return new Failure(
      'bad_gateway',
      `the guest answered "${call}" with ${status} and no error that we know: ${body.slice(0, 200)}`,
    );
  }
  const { code, message } = parsed.data.error;
  const known = status === 502 ? 'bad_gateway' : CODES[code];
  // A word that we do not know is the guest's mistake, not ours.
  return new Failure(known ?? 'bad_gateway', message, { details: { guestCode: code, guestStatus: status } });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the caller tells what it got instead
  }
}

/** No answer came, for want of a connection or of somebody at its other end. */
export function unreachable(call: string, cause: Error): Failure {
  return new Failure('unavailable', `"${call}" found no guest: ${cause.message}`, { retryable: true, cause });
}
