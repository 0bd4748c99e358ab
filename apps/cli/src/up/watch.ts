/**
 * Finds services that run and do no work, which no exit would ever tell. A *spell* is an unbroken row of looks at one run of a service that found it not
 * well; when it has lasted long enough the run is given up, and started again like one that has ended.
 */
import { setTimeout as after } from 'node:timers/promises';
import { explain, withDeadline } from '@torpor/kernel';
import type { Running, Service } from './service.ts';

export interface Patience {
  readonly everyMs: number;
  /** How long one look waits for an answer. */
  readonly answerMs: number;
  /** A spell that has lasted so long, in so many looks, is too long. Both: a machine that stood still has missed looks, not answers. */
  readonly spellMs: number;
  readonly looks: number;
}

export const PATIENCE: Patience = { everyMs: 5_000, answerMs: 5_000, spellMs: 30_000, looks: 4 };

/** What a look found: it works; it answers and says that it does not; it does not answer. */
export type Look = { readonly kind: 'well' } | { readonly kind: 'unwell' | 'silent'; readonly reason: string };

export interface Spell {
  readonly sinceMs: number;
  readonly looks: number;
}

/**
 * How a spell goes on after a look. What complains while another does is left alone, for its complaint may be about the other; what says nothing at all
 * is counted in any case.
 */
export function spellAfter(
  spell: Spell | undefined,
  look: Look,
  { nowMs, othersWell }: { readonly nowMs: number; readonly othersWell: boolean },
): Spell | undefined {
  if (look.kind === 'well' || (look.kind === 'unwell' && !othersWell)) return undefined;
  return { sinceMs: spell?.sinceMs ?? nowMs, looks: (spell?.looks ?? 0) + 1 };
}

/** A run that has not been well yet has as long as a start may take. */
export function isTooLong(
  spell: Spell,
  patience: Patience,
  { nowMs, leastMs }: { readonly nowMs: number; readonly leastMs: number },
): boolean {
  return spell.looks >= patience.looks && nowMs - spell.sinceMs >= Math.max(patience.spellMs, leastMs);
}

export interface Run {
  readonly service: Service;
  readonly running: Running;
}

/** Looks at every run, again and again, until the signal; gives up those whose spell is too long, and says why. */
export async function watchOver(
  runs: () => readonly Run[],
  giveUp: (run: Run, reason: string) => void,
  { patience, signal }: { readonly patience: Patience; readonly signal: AbortSignal },
): Promise<void> {
  const spells = new WeakMap<Running, Spell>();
  const wereWell = new WeakSet<Running>();
  while (await pausedFor(patience.everyMs, signal)) {
    const looks = await Promise.all(runs().map(async (run) => ({ run, look: await lookAt(run.service, patience) })));
    if (signal.aborted) return;
    const nowMs = performance.now();
    for (const { run, look } of looks) {
      if (look.kind === 'well') wereWell.add(run.running);
      const othersWell = looks.every((other) => other.run === run || other.look.kind === 'well');
      const spell = spellAfter(spells.get(run.running), look, { nowMs, othersWell });
      if (spell === undefined || look.kind === 'well') spells.delete(run.running);
      else if (isTooLong(spell, patience, { nowMs, leastMs: wereWell.has(run.running) ? 0 : run.service.startMs })) {
        spells.delete(run.running); // ending it takes a while, in which it must not be given up again
        giveUp(run, `${look.reason}, for ${((nowMs - spell.sinceMs) / 1000).toFixed(1)} s and ${spell.looks} looks`);
      } else spells.set(run.running, spell);
    }
  }
}

async function lookAt(service: Service, { answerMs }: Patience): Promise<Look> {
  try {
    const isWell = await withDeadline({ name: `${service.name} health`, ms: answerMs }, () => service.isHealthy());
    return isWell ? { kind: 'well' } : { kind: 'unwell', reason: 'it says that it does not do its work' };
  } catch (error) {
    return { kind: 'silent', reason: `it does not answer: ${explain(error)}` };
  }
}

/** False when the signal ended the pause. */
async function pausedFor(ms: number, signal: AbortSignal): Promise<boolean> {
  return after(ms, true, { signal }).catch(() => false);
}
