/** What to do, after a restart, with what a journal and the host say of one instance: a pure table. */
import type { InstanceFacts } from '@torpor/runtime';
import type { Entry, Process } from '../journal/index.ts';
import { howItEnded } from '../standby/death.ts';

export type Adoption =
  /** Nothing was ever done: only the journal is left to remove. */
  | { readonly kind: 'forget' }
  | { readonly kind: 'destroy'; readonly reason: string }
  | { readonly kind: 'pooled'; readonly asleep: boolean }
  | { readonly kind: 'claimed'; readonly found: 'found-running' | 'found-frozen' }
  | { readonly kind: 'failed'; readonly reason: string };

export function adoptionOf(entry: Entry, facts: InstanceFacts): Adoption {
  if (entry.destroying !== undefined) return { kind: 'destroy', reason: entry.destroying };
  if (!entry.spec) return { kind: 'forget' };
  if (!entry.process) return { kind: 'destroy', reason: 'its creation was cut short' };
  if (entry.claim && !entry.claimed) return { kind: 'destroy', reason: 'its claim was cut short' };
  const runs = (facts.state === 'running' || facts.state === 'frozen') && isSame(entry.process, facts);
  if (!entry.claim) {
    return runs
      ? { kind: 'pooled', asleep: facts.state === 'frozen' }
      : { kind: 'destroy', reason: 'a pooled instance whose process is gone' };
  }
  if (entry.failed !== undefined) return { kind: 'failed', reason: entry.failed };
  if (!runs) return { kind: 'failed', reason: `${howItEnded(facts)}, while no node-agent ran; its files are kept` };
  return { kind: 'claimed', found: facts.state === 'frozen' ? 'found-frozen' : 'found-running' };
}

function isSame(process: Process, facts: InstanceFacts): boolean {
  return same(process.pid, facts.pid) && same(process.startTicks, facts.startTicks);
}

function same(written: number | undefined, found: number | undefined): boolean {
  return written === undefined || found === undefined || written === found;
}
