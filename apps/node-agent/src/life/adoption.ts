/** What to do, after a restart, with what a journal and the host say of one instance. Pure. */
import type { InstanceFacts } from '@torpor/runtime';
import type { Entry, Process } from '../journal/index.ts';
import { endedOfItself, howItEnded } from '../standby/death.ts';

/** Why it is destroyed, whatever the host would say of it. `undefined`: it was whole. `build`: what new instances are made of now. */
export function whyDestroyed(entry: Entry, build: string): string | undefined {
  if (entry.destroying !== undefined) return entry.destroying;
  if (!entry.process) return 'its creation was cut short';
  if (entry.claim && !entry.claimed) return 'its claim was cut short';
  // Somebody's sandbox goes on as it is; nobody's would be given out long after the upgrade that was to replace its make.
  if (!entry.claim && entry.process.build !== build) return 'a pooled instance of another build than is made now';
  return undefined;
}

export type Found =
  | { readonly kind: 'running' | 'frozen' }
  /** Nothing of it runs: it wakes from an image, or from its files. `lost`: why not all of it comes back; `ofItself`: what ran inside has brought that about just now. */
  | { readonly kind: 'stored'; readonly lost: string | undefined; readonly ofItself: boolean }
  | { readonly kind: 'gone'; readonly how: string };

/** The process that was journaled may be gone and another have its number. */
export function foundAs(entry: Entry, facts: InstanceFacts): Found {
  const { shelf } = entry;
  const lives = facts.state === 'running' || facts.state === 'frozen';
  // What a wake has made that was not written down as done was let in to by nobody, and is not checked: that wake is begun anew.
  if (lives && !shelf.isComing && isSame(entry.process, facts)) return { kind: facts.state };
  const how = howItEnded(facts);
  if (!entry.claim) return { kind: 'gone', how };
  if (shelf.rests !== 'elsewhere') return { kind: 'stored', lost: undefined, ofItself: false };
  const isKept = shelf.images.length > 0 || shelf.snapshots.length > 0 || shelf.asides.length > 0;
  const fallsBack = isKept || shelf.isComing || entry.died !== undefined;
  if (fallsBack || isLostWithHost(facts)) {
    const isNews = entry.died === undefined && !shelf.isComing;
    const lost = entry.died ?? `${how}, while no node-agent ran`;
    return { kind: 'stored', lost, ofItself: isNews && endedOfItself(facts) };
  }
  return { kind: 'gone', how };
}

/** Whoever dies leaves a trace on the host, unless that went down with all that ran. */
function isLostWithHost({ state, death, oomKills = 0 }: InstanceFacts): boolean {
  return state === 'absent' && oomKills === 0 && (death === undefined || death.cause === 'unknown');
}

function isSame(process: Process | undefined, facts: InstanceFacts): boolean {
  return same(process?.pid, facts.pid) && same(process?.startTicks, facts.startTicks);
}

function same(written: number | undefined, found: number | undefined): boolean {
  return written === undefined || found === undefined || written === found;
}
