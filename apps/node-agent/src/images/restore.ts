/**
 * Making an instance run again that runs no more: from its newest image, when that will not do from an older one, and when there is none from its files.
 * Whatever is lost by that is said by what is answered, and never done for a host that is only in trouble: that wake fails and may be asked again.
 */
import { explain, Failure } from '@torpor/kernel';
import { isDamage, type Guest, type RestoreSpec } from '@torpor/runtime';
import type { KeptImage, Shelf } from '../journal/index.ts';
import type { Body, Parts } from '../parts.ts';
import type { Sleeper } from './store.ts';

const ATTEMPTS = 2;

export interface CameBack {
  readonly guest: Guest;
  readonly from: 'image' | 'files';
  readonly image: string | undefined;
  /** From when on nothing of it is left, ms since the epoch; `undefined` when nothing was lost. From `files`, its memory is lost whole. */
  readonly lostSinceMs: number | undefined;
}

export async function restoreOnHost(parts: Parts, body: Body, sleeper: Sleeper): Promise<CameBack> {
  const { shelving } = sleeper;
  let keep: string | undefined;
  for (;;) {
    const { images, rests, rewound } = shelving.shelf;
    const image = images.at(-1);
    if (!image) return await boot(parts, body, sleeper, keep);
    if (rests === 'elsewhere') keep ??= diskName(sleeper);
    const refused = await restoreFrom(parts, body, sleeper, image, keep);
    if (refused === undefined) {
      const isAsked = rewound?.image === image.image; // somebody wants it back, and knows what that means
      const lostSinceMs = rests === 'elsewhere' && !isAsked ? image.atMs : undefined;
      return { guest: guestOf(parts, body, sleeper.claim.token), from: 'image', image: image.image, lostSinceMs };
    }
    parts.events.imageRefused({ ...whoIs(sleeper), image: image.image, reason: refused });
    await shelving.damaged(image.image, refused);
  }
}

/** `undefined` when it runs; else why this image will not do. Throws when it may, another time. */
async function restoreFrom(
  parts: Parts,
  body: Body,
  sleeper: Sleeper,
  { image, sealedKey }: KeptImage,
  keep: string | undefined,
): Promise<string | undefined> {
  const { spec, claim, shelving } = sleeper;
  const key = openKey(parts, sleeper, image, sealedKey);
  if (key instanceof Error) return explain(key);
  for (let attempt = 1; ; attempt++) {
    // One that failed half-way may have run for a moment, so the disk is as it was only before the first.
    const disk = diskFor(shelving.shelf.rests, keep);
    const steps = parts.driver.restoreSteps({ ...spec, instanceId: body.hostId, image, key, token: claim.token, disk });
    const { intent } = await shelving.intend(
      { operation: 'restore', image, ...(keep === undefined || isOn(sleeper, keep) ? {} : { keep }) },
      steps,
    );
    try {
      await parts.journal.carryOut(intent, steps);
    } catch (error) {
      if (isDamage(error)) return explain(error);
      if (attempt < ATTEMPTS && !parts.closing.aborted) continue;
      if (!(error instanceof Failure) || error.retryable || parts.closing.aborted) throw error;
      return explain(error);
    }
    await shelving.done({ operation: 'restore', process: await processOf(parts, body) }, { durable: true });
    return undefined;
  }
}

function diskFor(rests: Shelf['rests'], keep: string | undefined): RestoreSpec['disk'] {
  if (rests === 'image') return { kind: 'as-it-is' };
  return { kind: 'as-then', ...(keep === undefined ? {} : { keep }) };
}

/** Its files as they are, and a guest that is told again who it is. */
async function boot(parts: Parts, body: Body, sleeper: Sleeper, keep: string | undefined): Promise<CameBack> {
  const { spec, claim, shelving } = sleeper;
  const steps = parts.driver.bootSteps({ ...spec, instanceId: body.hostId }, keep === undefined ? {} : { from: keep });
  const { intent } = await shelving.intend({ operation: 'boot' }, steps);
  await parts.journal.carryOut(intent, steps);
  const fresh = guestOf(parts, body, spec.bootToken);
  try {
    const { workdir, user, env } = parts.recipeOf(spec.template);
    const { name, token, generation, sealedEnv } = claim;
    const kept: unknown =
      sealedEnv === undefined ? env : JSON.parse(parts.nodeKey.open(claim.workspace, 'env', sealedEnv).toString());
    // What was sealed is what was claimed with.
    const identity = { name, hostname: name, env: kept as Record<string, string>, workdir, user, token, generation };
    await fresh.claim(identity);
  } finally {
    fresh.close();
  }
  await shelving.done({ operation: 'boot', process: await processOf(parts, body) }, { durable: true });
  return { guest: guestOf(parts, body, claim.token), from: 'files', image: undefined, lostSinceMs: 0 };
}

function openKey(parts: Parts, { claim }: Sleeper, image: string, sealedKey: string): Uint8Array | Error {
  try {
    return parts.nodeKey.open(claim.workspace, image, sealedKey);
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

async function processOf(parts: Parts, { hostId }: Body) {
  const { pid, startTicks } = await parts.driver.inspect(hostId);
  return { ...(pid ? { pid } : {}), ...(startTicks ? { startTicks } : {}) };
}

function guestOf(parts: Parts, { hostId, slot }: Body, token: string): Guest {
  return parts.driver.guest(parts.driver.handle({ instanceId: hostId, slot }), token);
}

/** What the disk is kept as before it is replaced. A wake that goes on where one was cut short must not take the replaced one for it. */
function diskName({ hostId, shelving: { shelf } }: Sleeper): string {
  const before = shelf.coming === undefined ? undefined : shelf.disks.at(-1);
  return before ?? `${hostId}-disk-${shelf.count}-${shelf.disks.length}`;
}

function isOn({ shelving }: Sleeper, name: string): boolean {
  return shelving.shelf.disks.includes(name);
}

function whoIs({ hostId, claim: { instanceId, generation, workspace, name } }: Sleeper) {
  return { instanceId, generation, workspace, name, hostId };
}
