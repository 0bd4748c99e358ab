/** Taking over after a restart of the node-agent: everything the journal knows goes on, is finished or is undone; what it does not know is destroyed. */
import { InstanceId } from '@torpor/contracts';
import { explain, Turns, withDeadline } from '@torpor/kernel';
import type { InstanceFacts } from '@torpor/runtime';
import { namesOn, type Claim, type Entry, type Hint, type Process, type Shelf, type Spec } from '../journal/index.ts';
import type { Body, Parts } from '../parts.ts';
import type { Pools } from '../pools/pools.ts';
import type { Instance } from '../standby/instance.ts';
import { foundAs, whyDestroyed } from './adoption.ts';
import type { Made } from './create.ts';
import { destroySurely, retryPause } from './destroy.ts';

const LOOKS_AT_ONCE = 8;
const LOOK_MS = 5_000;
/** How long the others wait for an instance of which the host says nothing. */
const PATIENCE_MS = 3_000;

/** A journal that got as far as to say what it is of. */
interface Begun {
  readonly entry: Entry & { readonly spec: Spec };
  readonly hint: Hint | undefined;
}

interface Stray extends Body {
  readonly images: readonly string[];
}

interface Adopter {
  readonly parts: Parts;
  readonly pools: Pools;
  readonly looks: Turns;
  /** Makes it one of the node's, not known yet: whoever wants it waits. */
  take(claim: Claim, body: Body, known: { hint: Hint | undefined; shelf: Shelf }): Instance;
}

/**
 * Resolves when every living instance is known again, but for those of which the host says nothing: they are asked for until it does. Destructions too go on
 * in the background.
 */
export async function adoptAll(parts: Parts, pools: Pools, take: Adopter['take']): Promise<void> {
  const since = parts.clock.monotonicMs();
  const adopter = { parts, pools, take, looks: new Turns(LOOKS_AT_ONCE) };
  const journals = await parts.journal.read();
  const begun = journals.filter(isBegun);
  for (const { entry } of begun) parts.slots.keep(entry.spec.slot, entry.hostId);
  const strays = await findStrays(parts, begun, await imagesByOwner(parts));
  const forgotten = await forgetEmpty(parts, journals, strays);

  const counts = { claimed: 0, stored: 0, pooled: 0, failed: 0, destroy: 0, forget: forgotten, unknown: begun.length };
  const adoptions = begun.map(async (one) => {
    const outcome = await adoptOne(adopter, one).catch((error: unknown) => bug(parts, one, error));
    if (outcome === 'unknown') return;
    counts[outcome]++;
    counts.unknown--;
  });
  await orPatience(parts, Promise.all(adoptions));
  for (const stray of strays) {
    parts.slots.keep(stray.slot, stray.hostId);
    parts.events.strayDestroyed({ hostId: stray.hostId, slot: stray.slot });
    void destroySurely(parts, stray, 'no journal knows it', stray.images);
  }
  parts.events.adopted({ ...counts, strays: strays.length, tookMs: parts.clock.monotonicMs() - since });
}

function isBegun(journal: { entry: Entry; hint: Hint | undefined }): journal is Begun {
  return journal.entry.spec !== undefined;
}

type Outcome = 'claimed' | 'stored' | 'pooled' | 'failed' | 'destroy' | 'unknown';

async function adoptOne(adopter: Adopter, one: Begun): Promise<Outcome> {
  const { parts } = adopter;
  const { hostId, spec, claim } = one.entry;
  const body = { hostId, slot: spec.slot };
  const unfit = whyDestroyed(one.entry, parts.driver.build);
  if (unfit === undefined)
    return await (claim ? adoptClaimed(adopter, claim, body, one) : adoptPooled(adopter, body, one));
  void destroySurely(parts, body, unfit, namesOn(one.entry.shelf));
  return 'destroy';
}

async function adoptClaimed(adopter: Adopter, claim: Claim, body: Body, { entry, hint }: Begun): Promise<Outcome> {
  const { parts } = adopter;
  const { spec, shelf } = entry;
  const instance = adopter.take(claim, body, { hint, shelf });
  if (entry.failed !== undefined) {
    instance.foundFailed(entry.failed);
    return 'failed';
  }
  // It may be ended while the host is asked.
  const isWanted = () => instance.state === 'creating';
  const facts = await factsOf(adopter, body.hostId, isWanted);
  if (!facts) return 'unknown';
  if (!isWanted()) return 'destroy';
  const found = foundAs(entry, facts);
  switch (found.kind) {
    case 'gone':
      instance.foundFailed(`${found.how}, while no node-agent ran; its files are kept`);
      return 'failed';
    case 'stored':
      await instance.adoptStored(spec, { ...found, isComing: shelf.isComing });
      return 'stored';
    default: {
      const guest = parts.driver.guest(parts.driver.handle(wordsOf(body)), claim.token);
      await instance.adopt({ guest, spec, process: processIn(facts) }, `found-${found.kind}`);
      return 'claimed';
    }
  }
}

/** A pooled instance that was caught awake, between its making and its sleep, is put to sleep now. */
async function adoptPooled(adopter: Adopter, body: Body, { entry }: Begun): Promise<Outcome> {
  const { parts, pools } = adopter;
  const facts = await factsOf(adopter, body.hostId);
  if (!facts) return 'unknown';
  const found = foundAs(entry, facts);
  const lives = found.kind === 'running' || found.kind === 'frozen';
  let unfit = lives ? 'no pool wants it any more' : 'a pooled instance whose process is gone';
  try {
    if (found.kind === 'running') await parts.driver.pause(body.hostId);
    if (lives && pools.adopt(madeOf(parts, body, entry.spec))) return 'pooled';
  } catch (error) {
    unfit = `a pooled instance that would not sleep: ${explain(error)}`;
  }
  void destroySurely(parts, body, unfit);
  return 'destroy';
}

/** Asks the host until it answers. `undefined`: the room closes, or nobody wants to know any more. */
async function factsOf(
  { parts, looks }: Adopter,
  hostId: InstanceId,
  isWanted: () => boolean = () => true,
): Promise<InstanceFacts | undefined> {
  const { driver, clock, closing, events } = parts;
  const timer = { name: 'look at an instance that is taken over', ms: LOOK_MS, clock, outer: closing };
  for (let attempt = 0; isWanted() && !closing.aborted; attempt++) {
    try {
      return await looks.run(() => withDeadline(timer, () => driver.inspect(hostId)), closing);
    } catch (error) {
      if (closing.aborted) return undefined;
      events.uncheckable({ hostId, reason: explain(error) });
      await retryPause(parts, attempt);
    }
  }
  return undefined;
}

function processIn({ pid, startTicks }: InstanceFacts): Process {
  return { ...(pid ? { pid } : {}), ...(startTicks ? { startTicks } : {}) };
}

function madeOf(parts: Parts, body: Body, spec: Spec): Made {
  const guest = parts.driver.guest(parts.driver.handle(wordsOf(body)), spec.bootToken);
  return { ...body, template: spec.template, shape: spec.shape, spec, guest };
}

/** The driver's words for a body. */
function wordsOf({ hostId, slot }: Body): { instanceId: InstanceId; slot: number } {
  return { instanceId: hostId, slot };
}

/**
 * What is on the host and in no journal that says what it is; one that says only that a stray is to be destroyed does not. The host tells ids and slots apart,
 * since what derives from a slot bears no id; they are destroyed in pairs as they come, and it does not matter who is paired with whom, because all go.
 * Images whose owner no journal knows go too. What an instance's own journal calls rubbish goes with its next wake.
 */
async function findStrays(parts: Parts, begun: readonly Begun[], images: Images): Promise<Stray[]> {
  const { instanceIds, slots } = await parts.driver.inventory();
  const ids = new Set(begun.map(({ entry }) => entry.hostId));
  const kept = new Set(begun.map(({ entry }) => entry.spec.slot));
  const strayIds = [...new Set([...instanceIds, ...images.keys()])].filter((id) => !ids.has(id));
  const straySlots = slots.filter((slot) => !kept.has(slot));
  return Array.from({ length: Math.max(strayIds.length, straySlots.length) }, (_, at) => {
    const hostId = strayIds[at] ?? InstanceId.parse(`stray${straySlots[at]}slot`);
    return { hostId, slot: straySlots[at] ?? parts.slots.take(hostId), images: images.get(hostId) ?? [] };
  });
}

type Images = ReadonlyMap<InstanceId, readonly string[]>;

/** Of those that cannot be listed now, strays are found at the next start. */
async function imagesByOwner({ driver, events }: Parts): Promise<Images> {
  const owned = new Map<InstanceId, string[]>();
  try {
    for (const { image } of await driver.images()) {
      const owner = InstanceId.safeParse(image.split('-')[0]);
      if (owner.success) owned.set(owner.data, [...(owned.get(owner.data) ?? []), image]);
    }
  } catch (error) {
    events.untidy({ reason: `images could not be listed: ${explain(error)}` });
  }
  return owned;
}

/** Journals of what was never begun, or of strays that are gone. Answers how many. */
async function forgetEmpty(parts: Parts, journals: readonly { entry: Entry }[], strays: readonly Body[]) {
  const onHost = new Set(strays.map(({ hostId }) => hostId));
  const empty = journals.filter(({ entry }) => !entry.spec && !onHost.has(entry.hostId));
  for (const { entry } of empty) await parts.journal.forget(entry.hostId);
  return empty.length;
}

async function orPatience({ clock, closing }: Parts, work: Promise<unknown>): Promise<void> {
  const bell = new AbortController();
  const late = clock.after(PATIENCE_MS, AbortSignal.any([bell.signal, closing])).catch(() => {}); // the work has ended, or the room
  await Promise.race([work, late]);
  bell.abort(new Error('the work has ended'));
}

function bug({ events }: Parts, { entry }: Begun, error: unknown): 'unknown' {
  events.bug({ where: `taking over ${entry.hostId}`, reason: explain(error) });
  return 'unknown';
}
