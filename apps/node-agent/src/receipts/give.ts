/** Says, signed, what a wake has brought back. A wake is not undone for want of its receipt: that is told instead. */
import type { InstanceId, Loss, Receipt } from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import type { CameBack } from '../images/restore.ts';
import type { Claim } from '../journal/index.ts';
import type { Parts } from '../parts.ts';

export type Testimony = [
  cause: Receipt['cause'],
  found: Pick<CameBack, 'image' | 'checks' | 'refused'>,
  wake: Pick<Receipt, 'tier' | 'wokeAtMs' | 'tookMs'> & { predictedMs: number | undefined; loss: Loss | undefined },
];

export async function giveReceipt(
  { receipts, events }: Parts,
  { hostId, claim: { instanceId, generation, workspace, name } }: { hostId: InstanceId; claim: Claim },
  ...[cause, { image, checks, refused }, wake]: Testimony
): Promise<void> {
  const who = { instanceId, generation, workspace, name };
  const from = image ? { image: image.image, imageAtMs: image.atMs } : {};
  try {
    const told = await receipts.write(hostId, { ...who, cause, ...wake, ...from, refused, checks: [...checks] });
    const { verdict, tier, tookMs } = told;
    events.receipt({ ...who, hostId, verdict, tier, tookMs, checks: told.checks });
  } catch (error) {
    events.receiptUnwritten({ ...who, hostId, reason: explain(error) });
  }
}
