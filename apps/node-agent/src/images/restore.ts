/**
 * Making an instance run again that runs no more: from its newest image, when that will not do from an older one, and when there is none from its files; or
 * from a disk that was put aside, when somebody has asked to go back to that. Whatever is lost by that is said by what is answered, and never done for a host that is only in trouble: that wake fails and may be asked again.
 */
import type { Check, Receipt } from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import { isTorn } from '@torpor/policy';
import {
  isDamage,
  isOfImage,
  isSilence,
  type BootDisk,
  type Guest,
  type GuestIdentity,
  type RestoreSpec,
} from '@torpor/runtime';
import type { Kept, KeptDisk, KeptImage, Shelf } from '../journal/index.ts';
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
  /** The image, or the disk that somebody has asked it to go back to. */
  readonly image: Pick<Kept, 'image' | 'atMs'> | undefined;
  /** It is what somebody asked it to go back to. */
  readonly isAsked: boolean;
  /** From when on nothing of it is left, ms since the epoch; `undefined` when nothing was lost. From `files`, its memory is lost whole. */
  readonly lostSinceMs: number | undefined;
  /** What the disk that was replaced is kept as, with the files of all that was lost. */
  readonly aside?: KeptDisk | undefined;
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
  let keep: KeptDisk | undefined;
  for (;;) {
    const { images, rests, rewound, asides } = shelving.shelf;
    const disk = asides.find((one) => one.image === rewound?.image);
    const image = disk ?? images.at(-1);
    // A wake that was given up may have put the disk aside before.
    if (!image) return { ...(await boot(parts, body, sleeper, keep ?? shelving.shelf.aside)), refused };
    if (rests === 'elsewhere')
      keep ??= shelving.shelf.aside ?? asideOf(parts, sleeper, { isOfDead: refused.length === 0 });
    const isAsked = rewound?.image === image.image; // somebody wants it back, and knows what that means
    const tried =
      'sealedKey' in image
        ? await restoreFrom(parts, body, sleeper, image, { keep, isAsked, restored })
        : await goBackTo(parts, body, sleeper, image, keep);
    if (tried.kind === 'runs') {
      const lostSinceMs = rests === 'elsewhere' && !isAsked ? image.atMs : undefined;
      const { guest, checks } = tried;
      const from = disk ? 'files' : 'image';
      return { guest, from, image, isAsked, lostSinceMs, aside: keep, checks, refused };
    }
    const { reason } = tried;
    parts.events.imageRefused({ ...whoIs(sleeper), image: image.image, reason });
    refused.push({ image: image.image, reason });
    await shelving.damaged(image.image, tried);
  }
}

type Tried = Refused | { readonly kind: 'runs'; readonly guest: Guest; readonly checks: readonly Check[] };

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
  { keep, isAsked, restored }: { keep: KeptDisk | undefined; isAsked: boolean; restored: () => void },
): Promise<Tried> {
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
    const { intent } = await shelving.intend({ operation: 'restore', image, ...keeping(sleeper, keep) }, steps);
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

function diskFor(rests: Shelf['rests'], keep: KeptDisk | undefined): RestoreSpec['disk'] {
  if (rests === 'image') return { kind: 'as-it-is' };
  return { kind: 'as-then', ...(keep ? { keep: keep.image } : {}) };
}

/** Its files as they are, or as they were when this wake put them aside. */
async function boot(
  parts: Parts,
  body: Body,
  sleeper: Sleeper,
  aside: KeptDisk | undefined,
): Promise<Omit<CameBack, 'refused'>> {
  const held = parts.volumes.of(body.hostId);
  const volumes = aside ? held.map((one) => ({ ...one, of: one.volume })) : held;
  const from = aside && ({ name: aside.image, isThere: 'perhaps' } as const);
  const guest = await beginAnew(parts, body, sleeper, { disk: { volumes, ...(from ? { from } : {}) } });
  return { guest, from: 'files', image: undefined, isAsked: false, lostSinceMs: 0, checks: [] };
}

/** To the files of a disk that a fall-back had put aside; somebody has asked for them. */
async function goBackTo(
  parts: Parts,
  body: Body,
  sleeper: Sleeper,
  { image: name, volumes: bound = [] }: KeptDisk,
  keep: KeptDisk | undefined,
): Promise<Tried> {
  const back = broughtBack(bound, parts.volumes.of(body.hostId), { disk: 'as-then', isAsked: true });
  if (back.kind === 'refused') return { kind: 'refused', reason: back.reason, isWhole: true };
  const from = { name, isThere: 'surely', ...(keep ? { keep: keep.image } : {}) } as const;
  try {
    const guest = await beginAnew(parts, body, sleeper, { disk: { from, volumes: back.volumes }, keep });
    return { kind: 'runs', guest, checks: [] };
  } catch (error) {
    if (!isDamage(error)) throw error;
    return { kind: 'refused', reason: explain(error), isWhole: false };
  }
}

/** On the files of a disk, and with a guest that is told again who it is. */
async function beginAnew(
  parts: Parts,
  body: Body,
  sleeper: Sleeper,
  { disk, keep }: { disk: BootDisk; keep?: KeptDisk | undefined },
): Promise<Guest> {
  const { spec, claim, shelving } = sleeper;
  const steps = parts.driver.bootSteps({ ...spec, instanceId: body.hostId }, disk);
  const { intent } = await shelving.intend({ operation: 'boot', ...keeping(sleeper, keep) }, steps);
  await parts.journal.carryOut(intent, steps);
  const fresh = guestOf(parts, body, spec.bootToken);
  try {
    await fresh.claim(identityOf(parts, sleeper));
    const volumes = parts.volumes.of(body.hostId);
    if (volumes.length > 0) await settleMounts(fresh, volumes);
  } finally {
    fresh.close();
  }
  await shelving.done({ operation: 'boot', process: await processOf(parts, body) }, { durable: true });
  return guestOf(parts, body, claim.token);
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

/** What the disk is put aside as before it is replaced, under a name that no other has had. */
function asideOf({ clock, volumes }: Parts, { hostId }: Sleeper, { isOfDead }: { isOfDead: boolean }): KeptDisk {
  const atMs = clock.nowMs();
  const when = new Date(atMs).toISOString().replaceAll(/[^0-9TZ]/g, '');
  return {
    image: `${hostId}-disk-${atMs.toString(36)}`,
    name: `disk-${isOfDead ? 'at-death' : 'before-fall-back'}-${when}`,
    because: 'fall-back',
    atMs,
    volumes: volumes.of(hostId),
  };
}

/** In the journal's words; nothing of what stands there already. */
function keeping({ shelving }: Sleeper, keep: KeptDisk | undefined) {
  if (!keep || shelving.shelf.disks.includes(keep.image)) return {};
  const { image, name, volumes = [] } = keep;
  return { keep: image, volumes: [...volumes], ...(name === undefined ? {} : { keepName: name }) };
}

function whoIs({ hostId, claim: { instanceId, generation, workspace, name } }: Sleeper) {
  return { instanceId, generation, workspace, name, hostId };
}
