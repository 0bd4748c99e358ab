/** Making an instance of a snapshot of another one. */
import type { Check, InstanceId, Shape } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { isTorn } from '@torpor/policy';
import type { KeptSnapshot } from '../journal/index.ts';
import type { Body, Parts } from '../parts.ts';
import type { Copy } from '../volumes/volumes.ts';
import { checkWake, shortOf } from '../receipts/check.ts';
import { carryThrough, specOf, type Made } from './create.ts';

const ATTEMPTS = 2;

/** What a fork is made of: a snapshot, and what there was to it when it was made. */
export interface Origin {
  readonly snapshot: KeptSnapshot;
  readonly key: Uint8Array;
  readonly template: string;
  readonly shape: Shape;
  /** Accepted by the guest that comes back. */
  readonly token: string;
  /** What its memory takes when all of it is there. */
  readonly memoryMib: number;
  /** Its own, of those that the snapshot holds. */
  readonly volumes: readonly Copy[];
}

/** What came back of the snapshot. */
export interface WokenFork {
  readonly from: KeptSnapshot;
  readonly checks: readonly Check[];
  /** When the checks had ended, by the monotonic clock. */
  readonly checkedAtMs: number;
}

/**
 * As `createOnHost`, with memory, processes and disk as the snapshot holds them; it believes itself to be what that was of, until the claim. It is checked as a
 * wake from disk is. One that comes back as less is tried again, unless it has volumes, which the first try may have written to, and then refused: nothing
 * is lost by having no fork, and nobody wants half of one.
 */
export async function forkOnHost(
  parts: Parts,
  body: Body,
  { instanceId, ...origin }: Origin & { readonly instanceId: InstanceId },
): Promise<{ made: Made; woken: WokenFork }> {
  const spec = specOf(parts, body, origin);
  const { snapshot, key, token } = origin;
  const volumes = origin.volumes.map(({ volume, name, of, sizeMib }) => ({ volume, name, of, newMib: sizeMib }));
  await parts.volumes.expectCopies(origin.volumes, { hostId: body.hostId, instanceId });
  const { image, census: before } = snapshot;
  const disk = { kind: 'as-then' } as const;
  for (let attempt = 1; ; attempt++) {
    const restoredAtMs = parts.clock.nowMs();
    const steps = parts.driver.restoreSteps({ ...spec, instanceId: body.hostId, image, key, token, disk, volumes });
    const made = await carryThrough(parts, body, { spec, steps, token });
    const checks = await checkWake(made.guest, { clock: parts.clock, before, generation: undefined, restoredAtMs });
    if (!isTorn(checks)) {
      await parts.volumes.copiesMade(origin.volumes);
      return { made, woken: { from: snapshot, checks, checkedAtMs: parts.clock.monotonicMs() } };
    }
    made.guest.close();
    if (attempt < ATTEMPTS && volumes.length === 0 && !parts.closing.aborted) continue;
    throw new Failure('unprocessable', `not all of the snapshot came back: ${shortOf(checks)}`);
  }
}
