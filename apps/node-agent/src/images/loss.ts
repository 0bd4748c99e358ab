import type { Loss } from '@torpor/contracts';
import { isShort } from '@torpor/policy';
import { shortOf } from '../receipts/check.ts';
import type { CameBack } from './restore.ts';

/** What a wake did not bring back. `undefined`: nothing is known to be lost. `died`: why what ran before is gone, if it did not sleep. */
export function lossOf(
  {
    from,
    lostSinceMs,
    aside,
    checks,
    refused,
  }: Pick<CameBack, 'from' | 'lostSinceMs' | 'aside' | 'checks' | 'refused'>,
  { atMs, died }: { atMs: number; died: string | undefined },
): Loss | undefined {
  if (lostSinceMs === undefined) {
    return isShort(checks) ? { atMs, to: 'flawed', reason: `not all of it came back: ${shortOf(checks)}` } : undefined;
  }
  const [newest] = refused;
  const why = died ?? `its newest image would not do: ${newest?.reason ?? 'there is none'}`;
  const what =
    from === 'files'
      ? 'its memory was lost, only its files came back'
      : `what happened after ${new Date(lostSinceMs).toISOString()} was lost`;
  const left =
    aside === undefined ? '' : `; the disk that was replaced is kept as the snapshot ${aside.name ?? aside.image}`;
  return { atMs, to: from, reason: `${what}: ${why}${left}` };
}
