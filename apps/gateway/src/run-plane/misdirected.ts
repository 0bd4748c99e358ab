import { CODE_HEADER } from '@torpor/contracts';

/** Whether the node says that it does not hold the sandbox. A program inside may answer 421 too, and means something of its own by it. */
export function isMisdirected(
  status: number | undefined,
  headers: Readonly<Record<string, string | string[] | undefined>>,
): boolean {
  return status === 421 && headers[CODE_HEADER] === 'misdirected';
}
