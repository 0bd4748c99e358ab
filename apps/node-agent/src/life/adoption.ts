/** What to do, after a restart, with what a journal and the host say of one instance. Pure. */
import type { InstanceFacts } from '@torpor/runtime';
import type { Entry, Process } from '../journal/index.ts';
import { howItEnded } from '../standby/death.ts';

/** Why it is destroyed, whatever the host would say of it. `undefined`: it was whole. `build`: what new instances are made of now. */
export function whyDestroyed(entry: Entry, build: string): string | undefined {
  if (entry.destroying !== undefined) return entry.destroying;
  if (!entry.process) return 'its creation was cut short';
  if (entry.claim && !entry.claimed) return 'its claim was cut short';
  // Somebody's sandbox goes on as it is; nobody's would be given out long after the upgrade that was to replace its make.
  if (!entry.claim && entry.process.build !== build) return 'a pooled instance of another build than is made now';
  return undefined;
}

export type Found = { readonly kind: 'running' | 'frozen' } | { readonly kind: 'gone'; readonly how: string };

/** The process that was journaled may be gone and another have its number. */
export function foundAs(process: Process | undefined, facts: InstanceFacts): Found {
  const lives = facts.state === 'running' || facts.state === 'frozen';
  return lives && isSame(process, facts) ? { kind: facts.state } : { kind: 'gone', how: howItEnded(facts) };
}

function isSame(process: Process | undefined, facts: InstanceFacts): boolean {
  return same(process?.pid, facts.pid) && same(process?.startTicks, facts.startTicks);
}

function same(written: number | undefined, found: number | undefined): boolean {
  return written === undefined || found === undefined || written === found;
}
