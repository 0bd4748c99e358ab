import type { Stack } from '../bench/lib/stack.ts';
import { askInventory, isProcess, readHost, readJournal, wantedHost } from './host-sets.ts';
import { until } from './until.ts';

/**
 * How long it took, in ms, until the host showed what the journal says and nothing else, the pool being full and nobody in the middle of anything.
 * That is more than a recovery: the pool is refilled at its own pace, hence the longer deadline.
 */
export async function settled(stack: Stack, pool: number, withinMs = 25_000): Promise<number> {
  let said = '';
  return until(
    'the host shows what the journal says',
    withinMs,
    async () => {
      said = await difference(stack, pool);
      return said === '';
    },
    () => said,
  );
}

/** Empty when there is none. */
async function difference(stack: Stack, pool: number): Promise<string> {
  const journal = await readJournal(stack);
  const host = await readHost(stack);
  const inventory = await askInventory(stack).catch((error: unknown) => String(error)); // hostd may be on its way back
  const unsettled = journal.filter(({ isSettled }) => !isSettled).map(({ id }) => id);
  if (unsettled.length > 0) return `the journal is in the middle of ${unsettled.join(', ')}`;
  const pooled = journal.filter(({ name }) => name === undefined).length;
  if (pooled !== pool) return `the pool holds ${pooled}`;
  for (const { id, process } of journal) if (!(await isProcess(process))) return `the process of ${id} is gone`;
  const wanted = JSON.stringify(wantedHost(journal));
  if (JSON.stringify(host) !== wanted) return `the journal wants ${wanted}, the kernel shows ${JSON.stringify(host)}`;
  return JSON.stringify(inventory) === wanted
    ? ''
    : `the journal wants ${wanted}, hostd tells ${JSON.stringify(inventory)}`;
}
