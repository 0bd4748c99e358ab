import type { Stack } from '../bench/lib/stack.ts';
import {
  askInventory,
  isProcess,
  readHost,
  readJournal,
  wantedHost,
  type HostSets,
  type Journaled,
} from './host-sets.ts';
import { until } from './until.ts';

type Node = Pick<Stack, 'scope' | 'stateDir'>;

/** A node makes one instance after another at a share of one core, and rests as long as a busy machine has made it work. */
const REFILL_MS = 120_000;

/** Ids of everything that the journal knows now. */
export async function journaledIds(stack: Node): Promise<ReadonlySet<string>> {
  return new Set((await readJournal(stack)).map(({ id }) => id));
}

/**
 * How long it took, in ms, until the host showed what the journal said at that moment and nothing else: of each settled instance everything, of one in
 * the middle of a step what may be there by then. Of those in `old` none may be in the middle of anything: they were there before the death.
 */
export function recovered(stack: Node, old: ReadonlySet<string>, withinMs = 10_000): Promise<number> {
  return untilNoDifference('the host shows what the journal says', withinMs, () =>
    difference(stack, ({ id }) => !old.has(id)),
  );
}

/** As `recovered`, with nobody in the middle of anything and the pool full, which takes as long as it takes. */
export function settled(stack: Node, pool: number, withinMs = REFILL_MS): Promise<number> {
  return untilNoDifference('the pool is full and the host shows what the journal says', withinMs, async () => {
    const pooled = (await readJournal(stack)).filter(({ name }) => name === undefined).length;
    return pooled === pool ? difference(stack, () => false) : `the pool holds ${pooled}`;
  });
}

async function untilNoDifference(what: string, withinMs: number, look: () => Promise<string>): Promise<number> {
  let said = '';
  return until(
    what,
    withinMs,
    async () => {
      said = await look();
      return said === '';
    },
    () => said,
  );
}

/** Empty when there is none. */
async function difference(stack: Node, mayBeUnsettled: (entry: Journaled) => boolean): Promise<string> {
  const journal = await readJournal(stack);
  const host = await readHost(stack);
  const inventory = await askInventory(stack).catch((error: unknown) => String(error)); // hostd may be on its way back
  if (typeof inventory === 'string') return inventory;
  // Each intent is written before its step: while the journal stays the same, nothing has begun that is not in it.
  if (JSON.stringify(await readJournal(stack)) !== JSON.stringify(journal)) return 'the journal is being written';
  const unsettled = journal.filter(({ isSettled }) => !isSettled);
  const stuck = unsettled.filter((entry) => !mayBeUnsettled(entry));
  if (stuck.length > 0) return `the journal is in the middle of ${stuck.map(({ id }) => id).join(', ')}`;
  const settledOnes = journal.filter(({ isSettled }) => isSettled);
  for (const { id, process, isStored } of settledOnes) {
    if ((await isProcess(process)) === isStored) return `the process of ${id} ${isStored ? 'still runs' : 'is gone'}`;
  }
  const wanted = JSON.stringify(wantedHost(settledOnes));
  const shown = JSON.stringify(without(unsettled, host));
  if (shown !== wanted) return `the journal wants ${wanted}, the kernel shows ${shown}`;
  const told = JSON.stringify(without(unsettled, inventory));
  return told === wanted ? '' : `the journal wants ${wanted}, hostd tells ${told}`;
}

/** What is left when everything of these is taken away. */
function without(entries: readonly Journaled[], sets: HostSets): HostSets {
  const theirs = new Set(entries.flatMap(({ id, slot }) => [id, String(slot)]));
  const rest = (names: readonly string[]) => names.filter((name) => !theirs.has(name));
  return {
    runsc: rest(sets.runsc),
    bundles: rest(sets.bundles),
    mounts: rest(sets.mounts),
    cgroups: rest(sets.cgroups),
    subvolumes: rest(sets.subvolumes),
    netns: rest(sets.netns),
    veths: rest(sets.veths),
    nftables: rest(sets.nftables),
  };
}
