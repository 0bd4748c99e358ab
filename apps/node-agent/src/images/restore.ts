/**
 * Making an instance run again that runs no more: from its newest image, when that will not do from an older one, and when there is none from its files.
 * Whatever is lost by that is said by what is answered, and never done for a host that is only in trouble: that wake fails and may be asked again.
 */
import type { Check, Receipt } from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import { isTorn } from '@torpor/policy';
import { isDamage, isOfImage, isSilence, type Guest, type GuestIdentity, type RestoreSpec } from '@torpor/runtime';
import type { KeptImage, Shelf } from '../journal/index.ts';
import { resolverFiles } from '../life/create.ts';
import type { Body, Parts } from '../parts.ts';
import { takeCensus } from '../receipts/census.ts';
import { checkWake, shortOf } from '../receipts/check.ts';
import { settleMounts } from '../volumes/mounts.ts';
import { broughtBack } from './restored-volumes.ts';
import type { Sleeper } from './store.ts';
import { freshAnswersAfterMs } from './witness.ts';

const ATTEMPTS = 2;
/** For a guest of which nothing was heard in all the time that two restores give it. */
const LAST_WORD_MS = 5_000;

export interface CameBack {
  readonly guest: Guest;
  readonly from: 'image' | 'files';
  readonly image: KeptImage | undefined;
  /** It is what somebody asked it to go back to. */
  readonly isAsked: boolean;
  /** From when on nothing of it is left, ms since the epoch; `undefined` when nothing was lost. From `files`, its memory is lost whole. */
  readonly lostSinceMs: number | undefined;
  /** What the disk that was replaced is kept as, with the files of all that was lost. */
  readonly aside?: string | undefined;
  /** What was looked at before anybody is let in; nothing of one that comes from its files. */
  readonly checks: readonly Check[];
  /** Images that would not do, the newest first. */
  readonly refused: Receipt['refused'];
}

/** `restored`: the host has done its work, and a guest is waited for, which may never answer: other wakes need not wait with it. */
export async function restoreOnHost(
  parts: Parts,
  body: Body,
  sleeper: Sleeper,
  restored: () => void,
): Promise<CameBack> {
  const { shelving } = sleeper;
  const refused: Receipt['refused'] = [];
  let keep: string | undefined;
  for (;;) {
    const { images, rests, rewound } = shelving.shelf;
    const image = images.at(-1);
    // A wake that was given up may have put the disk aside before.
    if (!image) return { ...(await boot(parts, body, sleeper, keep ?? shelving.shelf.aside)), refused };
    if (rests === 'elsewhere') keep ??= shelving.shelf.aside ?? diskName(parts, sleeper);
    const isAsked = rewound?.image === image.image; // somebody wants it back, and knows what that means
    const tried = await restoreFrom(parts, body, sleeper, image, { keep, isAsked, restored });
    if (tried.kind === 'runs') {
      const lostSinceMs = rests === 'elsewhere' && !isAsked ? image.atMs : undefined;
      const { guest, checks } = tried;
      return { guest, from: 'image', image, isAsked, lostSinceMs, aside: keep, checks, refused };
    }
    const { reason } = tried;
    parts.events.imageRefused({ ...whoIs(sleeper), image: image.image, reason });
    refused.push({ image: image.image, reason });
    await shelving.damaged(image.image, tried);
  }
}

interface Refused {
  readonly kind: 'refused';
  readonly reason: string;
  /** Its bytes are what was written: another host, or gVisor, may make more of them. It is put aside and not removed. */
  readonly isWhole: boolean;
}

/**
 * Throws when it may do another time: under the key that it was sealed with, or on a host that is in no trouble. What comes back torn is tried again, for nobody was
 * let in, and then gives way to an older image where there is one; where there is none, nothing better is to be had.
 */
async function restoreFrom(
  parts: Parts,
  body: Body,
  sleeper: Sleeper,
  { image, sealedKey, census, generation, volumes: bound = [] }: KeptImage,
  { keep, isAsked, restored }: { keep: string | undefined; isAsked: boolean; restored: () => void },
): Promise<Refused | { readonly kind: 'runs'; readonly guest: Guest; readonly checks: readonly Check[] }> {
  const { spec, claim, shelving } = sleeper;
  const key = parts.nodeKey.open(claim.workspace, image, sealedKey);
  for (let attempt = 1; ; attempt++) {
    // One that failed half-way may have run for a moment, so the disk is as it was only before the first.
    const disk = diskFor(shelving.shelf.rests, keep);
    const back = broughtBack(bound, parts.volumes.of(body.hostId), { disk: disk.kind, isAsked });
    if (back.kind === 'refused') return { kind: 'refused', reason: back.reason, isWhole: true };
    const { volumes } = back;
    const from = { image, key, token: claim.token, disk, volumes };
    const steps = parts.driver.restoreSteps({ ...spec, instanceId: body.hostId, ...from });
    const { intent } = await shelving.intend(
      { operation: 'restore', image, ...(keep === undefined || isOn(sleeper, keep) ? {} : { keep }) },
      steps,
    );
    const restoredAtMs = parts.clock.nowMs();
    try {
      await parts.journal.carryOut(intent, steps, ({ name }, error) => {
        if (name === 'sandbox.restore' && error === undefined) restored();
      });
    } catch (error) {
      if (isDamage(error)) return { kind: 'refused', reason: explain(error), isWhole: false };
      if (attempt < ATTEMPTS && !parts.closing.aborted) continue;
      if (!isOfImage(error) || parts.closing.aborted) throw error;
      const blame = await blameOf(parts, body, sleeper, error);
      if (blame !== undefined) return { kind: 'refused', reason: blame, isWhole: true };
    }
    const guest = guestOf(parts, body, claim.token);
    let cameAs: number | undefined;
    if (generation !== undefined) {
      try {
        cameAs = await tellOf(parts, body, sleeper, guest);
      } catch (error) {
        guest.close();
        if (attempt < ATTEMPTS && !parts.closing.aborted) continue;
        throw error;
      }
    }
    if (disk.kind === 'as-then' && volumes.length > 0) await settleMounts(guest, parts.volumes.of(body.hostId));
    const about = { clock: parts.clock, before: census, generation: claim.generation, cameAs, restoredAtMs };
    const checks = await checkWake(guest, about);
    if (isTorn(checks) && !parts.closing.aborted && (attempt < ATTEMPTS || hasOlder(sleeper))) {
      guest.close();
      if (attempt < ATTEMPTS) continue;
      return { kind: 'refused', reason: shortOf(checks), isWhole: true };
    }
    await shelving.done({ operation: 'restore', process: await processOf(parts, body) }, { durable: true });
    return { kind: 'runs', guest, checks };
  }
}

/**
 * Whether it is the image, and not the host, that keeps a restore from ending well: no memory is given up because a machine is loaded or in trouble. A time
 * limit alone cannot tell, so it is tried whether a fresh sandbox, of the same template and shape, is brought to answer beside it. Throws when that
 * fails too. `undefined`: the guest has answered at last, it was only slow.
 */
async function blameOf(
  parts: Parts,
  body: Body,
  { spec, claim }: Sleeper,
  error: unknown,
): Promise<string | undefined> {
  const tookMs = await freshAnswersAfterMs(parts, spec, error);
  const witness = `a fresh sandbox beside it answered after ${Math.round(tookMs)} ms`;
  if (!isSilence(error)) return `${explain(error)}; ${witness}`;
  const guest = guestOf(parts, body, claim.token);
  try {
    await guest.json('GET', '/v1/health', undefined, { headMs: Math.max(LAST_WORD_MS, 2 * tookMs) });
    return undefined;
  } catch (last) {
    return `${explain(error)}, in ${ATTEMPTS} restores; ${witness}, and it still did not: ${explain(last)}`;
  } finally {
    guest.close();
  }
}

function hasOlder({ shelving }: Sleeper): boolean {
  return shelving.shelf.images.length > 1;
}

function diskFor(rests: Shelf['rests'], keep: string | undefined): RestoreSpec['disk'] {
  if (rests === 'image') return { kind: 'as-it-is' };
  return { kind: 'as-then', ...(keep === undefined ? {} : { keep }) };
}

/** Its files as they are, and a guest that is told again who it is. */
async function boot(
  parts: Parts,
  body: Body,
  sleeper: Sleeper,
  keep: string | undefined,
): Promise<Omit<CameBack, 'refused'>> {
  const { spec, claim, shelving } = sleeper;
  const volumes = parts.volumes.of(body.hostId);
  const from = keep === undefined ? {} : { from: keep };
  const steps = parts.driver.bootSteps({ ...spec, instanceId: body.hostId }, { ...from, volumes });
  const { intent } = await shelving.intend({ operation: 'boot' }, steps);
  await parts.journal.carryOut(intent, steps);
  const fresh = guestOf(parts, body, spec.bootToken);
  try {
    await fresh.claim(identityOf(parts, sleeper));
    if (volumes.length > 0) await settleMounts(fresh, volumes);
  } finally {
    fresh.close();
  }
  await shelving.done({ operation: 'boot', process: await processOf(parts, body) }, { durable: true });
  const guest = guestOf(parts, body, claim.token);
  return { guest, from: 'files', image: undefined, isAsked: false, lostSinceMs: 0, checks: [] };
}

/**
 * One that slept on another node learns its generation and whom to ask for names here, before anybody is let in. Else it is who it was. Resolves to the
 * generation that it came as; one that cannot say that is not checked later either.
 */
async function tellOf(parts: Parts, body: Body, sleeper: Sleeper, guest: Guest): Promise<number | undefined> {
  const before = await takeCensus(guest, LAST_WORD_MS).catch(() => undefined);
  await guest.claim({ ...identityOf(parts, sleeper), files: resolverFiles(parts, body) });
  return before?.generation;
}

function identityOf(parts: Parts, { claim, spec }: Sleeper): GuestIdentity {
  const { workdir, user, env } = parts.recipeOf(spec.template);
  const { name, token, generation, sealedEnv } = claim;
  const kept: unknown =
    sealedEnv === undefined ? env : JSON.parse(parts.nodeKey.open(claim.workspace, 'env', sealedEnv).toString());
  // What was sealed is what was claimed with.
  return { name, hostname: name, env: kept as Record<string, string>, workdir, user, token, generation };
}

async function processOf(parts: Parts, { hostId }: Body) {
  const { pid, startTicks } = await parts.driver.inspect(hostId);
  return { ...(pid ? { pid } : {}), ...(startTicks ? { startTicks } : {}) };
}

function guestOf(parts: Parts, { hostId, slot }: Body, token: string): Guest {
  return parts.driver.guest(parts.driver.handle({ instanceId: hostId, slot }), token);
}

/** What the disk is put aside under before it is replaced: no other was. */
function diskName({ clock }: Parts, { hostId }: Sleeper): string {
  return `${hostId}-disk-${clock.nowMs().toString(36)}`;
}

function isOn({ shelving }: Sleeper, name: string): boolean {
  return shelving.shelf.disks.includes(name);
}

function whoIs({ hostId, claim: { instanceId, generation, workspace, name } }: Sleeper) {
  return { instanceId, generation, workspace, name, hostId };
}
