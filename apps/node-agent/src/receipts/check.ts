/** Looks, after a wake from disk and before anybody is let in, whether everything is there that was there before the sleep. */
import { Check } from '@torpor/contracts';
import { explain, Failure, type Clock } from '@torpor/kernel';
import { compare, missing, type Census, type Fate } from '@torpor/policy';
import type { Guest } from '@torpor/runtime';
import { z } from 'zod';
import { takeCensus } from './census.ts';

const CHECK_MS = 5_000;
/** How long a sleep waits for its census. Requests are let in meanwhile. */
const NOTE_MS = 3_000;

/**
 * What a wake from disk has brought back, beside what there was. One that slept as an older `generation` (absent: the one that it slept as will do) is told
 * of it first; where the file that tells the generation is not as it must be, it is written again. A guest that cannot be asked leaves everything unchecked.
 */
export async function checkWake(
  guest: Guest,
  about: {
    clock: Clock;
    before: Census | undefined;
    generation: number | undefined;
    /** When it has been told of its generation already. */
    cameAs?: number | undefined;
    restoredAtMs: number;
  },
): Promise<Check[]> {
  const { clock, before, restoredAtMs } = about;
  try {
    let counted = await countedBy(guest, clock);
    const cameAs = about.cameAs ?? counted.now.generation;
    const generation = about.generation ?? before?.generation ?? cameAs;
    if (counted.now.generation < generation) {
      await tellGeneration(guest, generation);
      counted = await countedBy(guest, clock);
    }
    const { now, askedAtMs, answeredAtMs } = counted;
    const gone = missing(before, now);
    const fates = new Map(await Promise.all(gone.map(async ({ id }) => [id, await fateOf(guest, id)] as const)));
    const file = now.published === now.generation ? 'right' : await publish(guest, now.generation);
    return compare({ before, now, cameAs, generation, file, restoredAtMs, askedAtMs, answeredAtMs, fates });
  } catch (error) {
    return uncheckable(explain(error));
  }
}

/** Before a sleep. A guest that believes in an older generation is told first: a greater one was given to it while it ran, or while nobody looked. */
export async function countedAs(generation: number, guest: Guest, signal?: AbortSignal): Promise<Census> {
  const census = await takeCensus(guest, NOTE_MS, signal);
  if (census.generation >= generation) return census;
  await tellGeneration(guest, generation);
  return await takeCensus(guest, NOTE_MS, signal);
}

async function countedBy(guest: Guest, clock: Clock) {
  const askedAtMs = clock.nowMs();
  const now = await takeCensus(guest, CHECK_MS);
  return { now, askedAtMs, answeredAtMs: clock.nowMs() };
}

function uncheckable(reason: string): Check[] {
  return Check.shape.what.options.map((what) => ({ what, outcome: 'not checked', found: reason }));
}

const Ended = z.object({ exitedAt: z.string(), exitCode: z.number(), endReason: z.string().optional() });

async function fateOf(guest: Guest, id: string): Promise<Fate> {
  const path = `/v1/processes/${encodeURIComponent(id)}`;
  const answer = await guest.json('GET', path, undefined, { headMs: CHECK_MS }).catch((error: unknown) => {
    if (error instanceof Failure && error.code === 'not_found') return undefined; // it is not even remembered
    throw error;
  });
  const ended = Ended.safeParse(answer);
  if (!ended.success) return { kind: 'untraced' };
  const { exitedAt, exitCode, endReason } = ended.data;
  // Nobody can have asked for its end: nobody was let in.
  const byGuest = endReason === 'timeout' || endReason === 'oom';
  return { kind: 'ended', atMs: Date.parse(exitedAt), code: exitCode, byGuest };
}

/** Its programs can read it from then on, and those that asked for a signal get one. */
export async function tellGeneration(guest: Guest, generation: number): Promise<void> {
  await guest.json('POST', '/v1/generation', { generation }, { headMs: CHECK_MS });
}

/** What runs inside may stand in the way of it, to its own harm. */
async function publish(guest: Guest, generation: number): Promise<'written again' | 'wrong'> {
  const path = '/v1/files/content?path=/run/torpor/generation&mode=0644&owner=root';
  const answer = await guest.send({ method: 'PUT', path, body: `${generation}\n`, headMs: CHECK_MS });
  answer.body.resume();
  return answer.status < 400 ? 'written again' : 'wrong';
}

/** Which checks failed, and by what. */
export function shortOf(checks: readonly Check[]): string {
  const failed = checks.filter(({ outcome }) => outcome === 'failed');
  return failed.map(({ what, found }) => `${what}: ${found}`).join('; ');
}
