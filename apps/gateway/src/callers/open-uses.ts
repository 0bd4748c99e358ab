/**
 * What callers have *open* by a key: streams, uploads, shells, whatever lasts beyond the moment in which the key was judged. When the key is revoked
 * or expires, all of it is cut. Whoever revokes tells every gateway, which cuts at once; a message may be missed, so the keys that have something
 * open are also read anew every few seconds: one timer for all, one reading for each key.
 */
import { Failure, withDeadline, type Clock, type Lifetime } from '@torpor/kernel';
import { endOfKey, type ApiKey, type StoredApiKey } from '@torpor/store';
import type { Ending } from '../front/exchange.ts';

export interface OpenUses {
  /** From now until the answer is called, `cut` is called, once, when the key opens nothing any more. */
  hold(key: ApiKey, cut: (why: Failure) => void): () => void;
  /** Cuts whatever is open by the key. */
  end(prefix: string, why: 'revoked' | 'expired' | 'unknown'): void;
}

interface Held {
  readonly key: ApiKey;
  readonly cuts: Set<(why: Failure) => void>;
}

/** A round begins so long after the last one's end, and takes no longer than that itself: together the five seconds that we promise. */
const EVERY_MS = 2_500;
const READ_AT_ONCE = 8;

export function openOpenUses(parts: {
  clock: Clock;
  lifetime: Lifetime;
  readAnew: (prefix: string) => Promise<StoredApiKey | undefined>;
}): OpenUses {
  const { clock, lifetime, readAnew } = parts;
  const open = new Map<ApiKey['prefix'], Held>();

  const end: OpenUses['end'] = (prefix, why) => {
    const held = open.get(prefix);
    open.delete(prefix);
    for (const cut of held?.cuts ?? []) cut(new Failure('unauthenticated', `this API key is ${why}`));
  };

  async function watch(): Promise<void> {
    while (!lifetime.signal.aborted) {
      // The only rejection is the room's closing.
      await clock.after(EVERY_MS, lifetime.signal).catch(() => undefined);
      // Needs no store, so it comes first.
      for (const { key } of [...open.values()]) judge(key.prefix, key);
      if (open.size === 0) continue;
      const round = { name: 'round of keys in use', ms: EVERY_MS, clock, outer: lifetime.signal };
      // What this round has not come to, the next one reads again.
      await withDeadline(round, readAll).catch(() => undefined);
    }
  }

  async function readAll(signal: AbortSignal): Promise<void> {
    const prefixes = [...open.keys()].values();
    const lanes = Array.from({ length: READ_AT_ONCE }, async () => {
      for (const prefix of prefixes) {
        if (signal.aborted) return;
        await readAnew(prefix).then(
          (stored) => judge(prefix, stored?.key),
          () => undefined, // an outage of the database stops changes, not use
        );
      }
    });
    await Promise.all(lanes);
  }

  function judge(prefix: string, key: ApiKey | undefined): void {
    const why = key ? endOfKey(key, clock.nowMs()) : 'unknown';
    if (why) end(prefix, why);
  }

  const watching = watch();
  lifetime.own('the watch over keys in use', () => watching);

  return {
    hold(key, cut) {
      const held = open.get(key.prefix) ?? { key, cuts: new Set() };
      open.set(key.prefix, held);
      held.cuts.add(cut);
      return () => {
        held.cuts.delete(cut);
        // A later use may have begun anew under the same prefix.
        if (held.cuts.size === 0 && open.get(key.prefix) === held) open.delete(key.prefix);
      };
    },
    end,
  };
}

/** Does the work while the key is good; then `breakOff` must end it, so that the caller sees it broken. */
export async function whileKeyLasts(
  uses: Pick<OpenUses, 'hold'>,
  use: { key: ApiKey; notes: Record<string, unknown>; breakOff: () => void },
  work: () => Promise<Ending>,
): Promise<Ending> {
  const over: Ending = { status: 401, outcome: 'broken' };
  let isCut = false;
  const release = uses.hold(use.key, (why) => {
    isCut = true;
    use.notes['problem'] = why.message;
    use.breakOff();
  });
  try {
    const ending = await work();
    // To those who do the work it looks as if the caller had gone.
    return isCut ? over : ending;
  } catch (error) {
    if (isCut) return over;
    throw error;
  } finally {
    release();
  }
}
