/**
 * A fork's changes brought into the sandbox that it was forked from. It is the sandbox's own guest that changes its files: gVisor knows its tree by heart, so nobody
 * may write below it. The guest does all of it or nothing, and what was there is kept as a snapshot.
 */
import type { mergeFiles, ToldPoint } from '@torpor/contracts';
import { explain, Failure } from '@torpor/kernel';
import { guestFailure, type Guest, type MergeSpec } from '@torpor/runtime';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import type { KeptSnapshot } from '../journal/index.ts';
import { COMPARE_LIMITS, type CompareParts } from './compare.ts';
import { bytesOf, mergeStepOf, planOf, type Plan } from './plan.ts';
import { atPoint, toldOf } from './points.ts';

type Ask = z.infer<typeof mergeFiles.request>;
type Answer = z.infer<typeof mergeFiles.reply>;

/** As one stream, which the guest lays ready before it changes anything. */
const CARRY_LIMITS = { entries: 500_000, bytes: 4 * 2 ** 30, ms: 120_000, listed: 1 } as const;

const APPLY_MS = 240_000;

const Applied = z.object({ applied: z.number(), skipped: z.array(z.string()) });

export async function mergeOnHost(parts: CompareParts, ask: Ask): Promise<Answer> {
  const { standby } = parts;
  const { instanceId, generation } = ask.here;
  const { snapshots } = standby.at(instanceId, generation);
  const before = await snapshots.make({ because: 'merge', ...(ask.by === undefined ? {} : { by: ask.by }) });
  let isKept = false;
  try {
    const answer = await snapshots.lend(before.image, () => mergeOver(parts, ask, before, () => void (isKept = true)));
    return isKept ? { ...answer, before: toldOf(before) } : answer;
  } finally {
    // Nothing was changed, so there is nothing to go back to. It may be what it sleeps in, kept under another note.
    if (!isKept && before.because === 'merge') {
      const removed = snapshots.remove(before.image);
      await removed.catch((error: unknown) => parts.untidy({ instanceId, reason: explain(error) }));
    }
  }
}

async function mergeOver(parts: CompareParts, ask: Ask, here: KeptSnapshot, changes: () => void): Promise<Answer> {
  const { base, fork, under, settle, dryRun } = ask;
  return await atPoint(parts, base, (was) =>
    atPoint(parts, fork, async (theirs) => {
      const images = [was.image, theirs.image, here.image] as const;
      const told = await parts.driver.compareFiles({ images, under, limits: COMPARE_LIMITS });
      const plan = planOf(told, settle);
      const { unlisted, tookMs } = told;
      const answer = { ...listsOf(plan), isMerged: false, unlisted, tookMs };
      if (dryRun || plan.conflicts.length > 0) return answer;
      if (unlisted > 0) throw tooMany(plan.steps.length + unlisted);
      if (plan.steps.length === 0) return { ...answer, isMerged: true };
      const skipped = await carryOver(parts, ask, { plan, theirs, here }, changes);
      return { ...answer, isMerged: true, left: [...answer.left, ...skipped] };
    }),
  );
}

function listsOf({ steps, conflicts, own }: Plan) {
  return { steps: [...steps], conflicts: [...conflicts], left: [...own] };
}

/** Resolves with the paths of what cannot be carried. */
async function carryOver(
  { driver, standby }: CompareParts,
  { here: { instanceId, generation } }: Ask,
  { plan, theirs, here }: { plan: Plan; theirs: ToldPoint; here: KeptSnapshot },
  changes: () => void,
): Promise<string[]> {
  const instance = standby.at(instanceId, generation);
  const { hostId } = instance.body ?? {};
  if (hostId === undefined)
    throw new Failure('conflict', 'the sandbox has nothing to merge into yet', { retryable: true });
  const merge: MergeSpec = { sinceMs: here.atMs, steps: plan.steps.map(mergeStepOf) };
  const limits = { ...CARRY_LIMITS, bytes: bytesOf(plan.steps) + 2 ** 20 };
  if (limits.bytes > CARRY_LIMITS.bytes) throw tooHeavy(limits.bytes);
  const packed = await driver.packFiles({ instanceId: hostId, image: theirs.image, merge, limits });
  try {
    let skipped: string[] = [];
    await instance.whileAwake(async (guest) => {
      try {
        skipped = await apply(guest, packed.read());
        changes();
      } catch (error) {
        if (isRefusal(error)) throw error;
        changes();
        throw uncertain(error, here);
      }
    });
    return skipped.map((name) => placeOf(name, plan));
  } finally {
    await packed.drop();
  }
}

async function apply(guest: Guest, body: Readable): Promise<string[]> {
  const path = '/v1/files/apply';
  const headers = { 'content-type': 'application/x-tar' };
  const answer = await guest.send({ method: 'POST', path, headers, body, headMs: APPLY_MS, bulk: true });
  const said = await text(answer.body);
  if (answer.status === 404) throw tooOld();
  if (answer.status >= 400) throw guestFailure(`POST ${path}`, answer.status, said);
  return Applied.parse(JSON.parse(said)).skipped;
}

/** The guest says that it has changed nothing. */
function isRefusal(error: unknown): boolean {
  const status = error instanceof Failure ? error.details?.['guestStatus'] : undefined;
  return error instanceof Failure && (error.code === 'conflict' || (typeof status === 'number' && status !== 500));
}

/** Its word was not heard, or it could not take back all that it had done. */
function uncertain(error: unknown, { image }: KeptSnapshot): Failure {
  const what = `the merge may have been made, or a part of it: ${explain(error)}`;
  return new Failure('internal', `${what}; what was there is kept as the snapshot ${image}`, { cause: error });
}

/** The guest names what it skips by the number of its step. */
function placeOf(name: string, { steps }: Plan): string {
  const [number = '', ...below] = name.split('/');
  return [steps[Number(number)]?.path ?? name, ...below].join('/');
}

function tooOld(): Failure {
  const why = 'its guest is of before merges';
  return new Failure('conflict', `${why}: store the sandbox, wake it with its files only, and merge again`);
}

function tooMany(count: number): Failure {
  const most = COMPARE_LIMITS.listed;
  return new Failure(
    'too_large',
    `${count} steps are more than the ${most} or so that one merge may have; name a part of the tree`,
  );
}

function tooHeavy(bytes: number): Failure {
  const [has, most] = [bytes, CARRY_LIMITS.bytes].map((one) => `${Math.ceil(one / 2 ** 20)} MiB`);
  return new Failure(
    'too_large',
    `the merge would carry ${has}, more than the limit of ${most}; name a part of the tree`,
  );
}
