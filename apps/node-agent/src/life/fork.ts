/** Making an instance of a snapshot of another one. */
import type { Check, InstanceId, Shape } from '@torpor/contracts';
import { Failure } from '@torpor/kernel';
import { isTorn } from '@torpor/policy';
import type { Kept, KeptDisk, KeptSnapshot } from '../journal/index.ts';
import type { Body, Parts } from '../parts.ts';
import type { Copy } from '../volumes/volumes.ts';
import { checkWake, shortOf } from '../receipts/check.ts';
import { settleMounts } from '../volumes/mounts.ts';
import { carryThrough, specOf, type Made } from './create.ts';

const ATTEMPTS = 2;

/** What a fork is made of, and what there was to it then. */
export type Origin = OfSnapshot | OfDisk;

interface OfSnapshot extends Shared {
  readonly kind: 'image';
  readonly snapshot: KeptSnapshot;
  readonly key: Uint8Array;
  /** Accepted by the guest that comes back. */
  readonly token: string;
  /** What its memory takes when all of it is there. */
  readonly memoryMib: number;
}

/** Its files alone. */
interface OfDisk extends Shared {
  readonly kind: 'disk';
  readonly disk: KeptDisk;
}

interface Shared {
  readonly template: string;
  readonly shape: Shape;
  /** Its own, of those that the snapshot holds. */
  readonly volumes: readonly Copy[];
}

/** What came back of the snapshot. */
export interface WokenFork {
  readonly from: Kept;
  readonly checks: readonly Check[];
  /** When the checks had ended, by the monotonic clock. */
  readonly checkedAtMs: number;
}

interface Forked {
  readonly made: Made;
  readonly woken: WokenFork;
}

/** As `createOnHost`, with what the snapshot holds. It shares nothing with its parent afterwards but blocks of the disk. */
export async function forkOnHost(
  parts: Parts,
  body: Body,
  { instanceId, ...origin }: Origin & { readonly instanceId: InstanceId },
): Promise<Forked> {
  await parts.volumes.expectCopies(origin.volumes, { hostId: body.hostId, instanceId });
  const forked = origin.kind === 'image' ? await wake(parts, body, origin) : await begin(parts, body, origin);
  await parts.volumes.copiesMade(origin.volumes);
  return forked;
}

/**
 * With memory, processes and disk; it believes itself to be what the snapshot is of, until the claim. It is checked as a wake from disk is. One that comes
 * back as less is tried again, unless it has volumes, which the first try may have written to, and then refused: nothing is lost by having no fork, and
 * nobody wants half of one.
 */
async function wake(parts: Parts, body: Body, origin: OfSnapshot): Promise<Forked> {
  const spec = specOf(parts, body, origin);
  const { snapshot, key, token } = origin;
  const volumes = copiesOf(origin);
  const { image, census: before } = snapshot;
  const disk = { kind: 'as-then' } as const;
  for (let attempt = 1; ; attempt++) {
    const restoredAtMs = parts.clock.nowMs();
    const steps = parts.driver.restoreSteps({ ...spec, instanceId: body.hostId, image, key, token, disk, volumes });
    const made = await carryThrough(parts, body, { spec, steps, token });
    const checks = await checkWake(made.guest, { clock: parts.clock, before, generation: undefined, restoredAtMs });
    if (!isTorn(checks)) return { made, woken: wokenOf(parts, snapshot, checks) };
    made.guest.close();
    if (attempt < ATTEMPTS && volumes.length === 0 && !parts.closing.aborted) continue;
    throw new Failure('unprocessable', `not all of the snapshot came back: ${shortOf(checks)}`);
  }
}

/** On the files of a disk that a fall-back had put aside. */
async function begin(parts: Parts, body: Body, origin: OfDisk): Promise<Forked> {
  const spec = specOf(parts, body, origin);
  const { disk } = origin;
  const from = { name: disk.image, isThere: 'surely' } as const;
  const steps = parts.driver.bootSteps({ ...spec, instanceId: body.hostId }, { from, volumes: copiesOf(origin) });
  const made = await carryThrough(parts, body, { spec, steps, token: spec.bootToken });
  if (origin.volumes.length > 0) await settleMounts(made.guest, origin.volumes);
  return { made, woken: wokenOf(parts, disk, []) };
}

function copiesOf({ volumes }: Origin) {
  return volumes.map(({ volume, name, of, sizeMib }) => ({ volume, name, of, newMib: sizeMib }));
}

function wokenOf({ clock }: Parts, from: Kept, checks: readonly Check[]): WokenFork {
  return { from, checks, checkedAtMs: clock.monotonicMs() };
}
