/** Taking over after a restart of the node-agent: everything the journal knows goes on, is finished or is undone; what it does not know is destroyed. */
import { InstanceId } from '@torpor/contracts';
import { explain } from '@torpor/kernel';
import type { InstanceFacts } from '@torpor/runtime';
import type { Claim, Entry, Hint, Spec } from '../journal/index.ts';
import type { Body, Parts } from '../parts.ts';
import type { Pools } from '../pools/pools.ts';
import type { Instance } from '../standby/instance.ts';
import { adoptionOf } from './adoption.ts';
import type { Made } from './create.ts';
import { destroySurely } from './destroy.ts';

type Take = (claim: Claim, body: Body, hint: Hint | undefined) => Instance;

const INSPECTIONS_AT_ONCE = 8;

/** Resolves when every living instance is known again; destructions go on in the background. */
export async function adoptAll(parts: Parts, pools: Pools, take: Take): Promise<void> {
  const since = parts.clock.monotonicMs();
  const counts = { claimed: 0, pooled: 0, failed: 0, destroy: 0, forget: 0 };
  const journals = await parts.journal.read();
  for (const { entry } of journals) if (entry.spec) parts.slots.keep(entry.spec.slot, entry.hostId);
  const strays = await findStrays(parts, journals);
  await sideBySide(journals, INSPECTIONS_AT_ONCE, async ({ entry, hint }) => {
    const facts = await parts.driver.inspect(entry.hostId);
    counts[await adoptOne(parts, pools, take, { entry, hint, facts })]++;
  });
  for (const stray of strays) {
    parts.slots.keep(stray.slot, stray.hostId);
    parts.events.strayDestroyed(stray);
    void destroySurely(parts, stray, 'no journal knows it');
  }
  parts.events.adopted({ ...counts, strays: strays.length, tookMs: parts.clock.monotonicMs() - since });
}

async function adoptOne(
  parts: Parts,
  pools: Pools,
  take: Take,
  { entry, hint, facts }: { entry: Entry; hint: Hint | undefined; facts: InstanceFacts },
) {
  const adoption = adoptionOf(entry, facts);
  const { spec, claim } = entry;
  if (adoption.kind === 'forget' || !spec) {
    await parts.journal.forget(entry.hostId);
    return 'forget';
  }
  const body = { hostId: entry.hostId, slot: spec.slot };
  switch (adoption.kind) {
    case 'destroy':
      void destroySurely(parts, body, adoption.reason);
      return 'destroy';
    case 'pooled':
      return await adoptPooled(parts, pools, madeOf(parts, body, spec), adoption.asleep);
    case 'claimed':
      instanceOf(claim).adopt(
        parts.driver.guest(parts.driver.handle(wordsOf(body)), claimOf(claim).token),
        adoption.found,
      );
      return 'claimed';
    case 'failed':
      instanceOf(claim).foundFailed(adoption.reason);
      return 'failed';
  }

  function instanceOf(of: Claim | undefined): Instance {
    return take(claimOf(of), body, hint);
  }
}

/** A pooled instance that was caught awake, between its making and its sleep, is put to sleep now. */
async function adoptPooled(parts: Parts, pools: Pools, made: Made, asleep: boolean): Promise<'pooled' | 'destroy'> {
  try {
    if (!asleep) await parts.driver.pause(made.hostId);
    if (pools.adopt(made)) return 'pooled';
    void destroySurely(parts, made, 'no pool wants it any more');
  } catch (error) {
    void destroySurely(parts, made, `a pooled instance that would not sleep: ${explain(error)}`);
  }
  return 'destroy';
}

function madeOf(parts: Parts, body: Body, spec: Spec): Made {
  const guest = parts.driver.guest(parts.driver.handle(wordsOf(body)), spec.bootToken);
  return { ...body, template: spec.template, shape: spec.shape, guest };
}

/** The driver's words for a body. */
function wordsOf({ hostId, slot }: Body): { instanceId: InstanceId; slot: number } {
  return { instanceId: hostId, slot };
}

function claimOf(claim: Claim | undefined): Claim {
  if (!claim) throw new Error('adoptionOf speaks of claimed instances only where there is a claim');
  return claim;
}

/**
 * What is on the host and in no journal. The host tells ids and slots apart, since what derives from a slot bears no id; they are destroyed in pairs as
 * they come, and it does not matter who is paired with whom, because all of them go.
 */
async function findStrays(parts: Parts, journals: readonly { entry: Entry }[]): Promise<Body[]> {
  const { instanceIds, slots } = await parts.driver.inventory();
  const ids = new Set(journals.map(({ entry }) => entry.hostId));
  const kept = new Set(journals.map(({ entry }) => entry.spec?.slot));
  const strayIds = instanceIds.filter((id) => !ids.has(id));
  const straySlots = slots.filter((slot) => !kept.has(slot));
  return Array.from({ length: Math.max(strayIds.length, straySlots.length) }, (_, at) => {
    const hostId = strayIds[at] ?? InstanceId.parse(`stray${straySlots[at]}slot`);
    return { hostId, slot: straySlots[at] ?? parts.slots.take(hostId) };
  });
}

async function sideBySide<T>(items: readonly T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  const left = items.values();
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (const item of left) await work(item);
    }),
  );
}
