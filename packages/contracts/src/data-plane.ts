/**
 * How the gateway speaks to a node's data-plane listener:
 * `<nodeUrl>/d/<instanceId>/<generation>/<part><rest>`, where `rest` is the caller's raw path and query, never decoded nor normalised.
 * A node that does not hold that generation answers 421, with its code in `CODE_HEADER`, before it reads a byte of the body.
 */
import type { Generation, InstanceId } from './ids.ts';

/**
 * `blaxel`: the Blaxel sandbox API. `port/<n>`: a port inside, for who has a key. `preview/<n>`: the same for who has a preview's address, whose forgotten
 * tab must hold nothing awake. `guest`: the guest's own calls, for our CLI.
 */
export type DataPlanePart = 'blaxel' | 'guest' | `port/${number}` | `preview/${number}`;

/** Carries the installation's data key; a request without it is refused with 401. Never passed into a sandbox. */
export const DATA_KEY_HEADER = 'x-torpor-data-key';

/** On an answer that is the node's own: the failure's code. No program inside can set it, so that its 421 is not taken for the node's. */
export const CODE_HEADER = 'x-torpor-code';

export function dataPlanePath(
  target: { readonly instanceId: InstanceId; readonly generation: Generation },
  part: DataPlanePart,
  rest: string,
): string {
  return `/d/${target.instanceId}/${target.generation}/${part}${rest}`;
}
