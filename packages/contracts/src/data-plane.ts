/**
 * How the gateway speaks to a node's data-plane listener:
 * `<nodeUrl>/d/<instanceId>/<generation>/<part><rest>`, where `rest` is the caller's raw path and query, never decoded nor normalised.
 * A node that does not hold that generation answers 421 before it reads a byte of the body.
 */
import type { Generation, InstanceId } from './ids.ts';

/** `blaxel`: the Blaxel sandbox API. `port/<n>`: a port inside. `guest`: the guest's own calls, for our CLI. */
export type DataPlanePart = 'blaxel' | 'guest' | `port/${number}`;

/** Carries the installation's data key; a request without it is refused with 401. Never passed into a sandbox. */
export const DATA_KEY_HEADER = 'x-torpor-data-key';

export function dataPlanePath(
  target: { readonly instanceId: InstanceId; readonly generation: Generation },
  part: DataPlanePart,
  rest: string,
): string {
  return `/d/${target.instanceId}/${target.generation}/${part}${rest}`;
}
