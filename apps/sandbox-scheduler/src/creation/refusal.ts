import { Failure } from '@torpor/kernel';
import type { Placement } from '@torpor/policy';

/** What a caller is told when no node would have it. `what` says what could not be done, such as `the sandbox "web" could not be placed`. */
export function refusal(what: string, placement: Placement & { kind: 'refused' }): Failure {
  const message = `${what}: ${placement.reason}`;
  const waiting = { retryable: true, retryAfterS: placement.retryAfterS };
  switch (placement.why) {
    case 'no_template':
      return new Failure('bad_request', message);
    case 'too_large':
      return new Failure('unprocessable', message);
    case 'no_node':
      return new Failure('unavailable', message, waiting);
    case 'no_room':
      return new Failure('no_capacity', message, waiting);
  }
}
