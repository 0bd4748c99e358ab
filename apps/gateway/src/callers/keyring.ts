import { keyRevoked } from '@torpor/contracts';
import type { Wire } from '@torpor/bus';
import type { Clock, Lifetime } from '@torpor/kernel';
import { checkKey, readKey, type ApiKey, type KeyVerdict, type Store, type StoredApiKey } from '@torpor/store';
import { Remembered } from '../ways/remembered.ts';
import { openOpenUses, type OpenUses } from './open-uses.ts';

export interface Keyring {
  /** Whose key this text is. Resolves at once for a key that was seen a moment ago; rejects when the store must be asked and does not answer. */
  verify(text: string): Promise<KeyVerdict>;
  /** What callers have open; it is cut with their key. */
  readonly uses: Pick<OpenUses, 'hold'>;
  /** Forgets a revoked key here and in every other gateway, and cuts what is open by it. */
  revoked(prefix: string): void;
  /** A key was made: an earlier "there is none" no longer holds. */
  made(prefix: string): void;
}

const USE_NOTED_EVERY_MS = 30_000;

export async function openKeyring(parts: {
  store: Store;
  wire: Wire;
  clock: Clock;
  lifetime: Lifetime;
  onTrouble: (doing: string, error: unknown) => void;
}): Promise<Keyring> {
  const { store, wire, clock, lifetime, onTrouble } = parts;
  const seen = new Remembered<StoredApiKey>({
    clock,
    read: (prefix) => store.keys.findByPrefix(prefix),
    freshMs: 2_500,
    lifeMs: 5_000,
    missMs: 1_000,
    graceMs: 600_000,
    entriesMax: 10_000,
  });
  const open = openOpenUses({ clock, lifetime, readAnew: (prefix) => seen.readAnew(prefix) });
  const forget = (prefix: string) => {
    seen.forget(prefix);
    open.end(prefix, 'revoked');
  };
  const revocations = await wire.hear(keyRevoked, ({ prefix }) => forget(prefix));
  lifetime.own('the ear for revoked keys', () => revocations.close());

  const uses = new Map<string, number>();
  const noting = noteUses({ store, clock, uses, signal: lifetime.signal, onTrouble });
  lifetime.own('the noting of uses', () => noting);

  return {
    uses: open,
    async verify(text) {
      const parts = readKey(text);
      if (!parts) return { kind: 'bad', why: 'unknown' };
      const known = seen.now(parts.prefix);
      const stored = known ? known.value : await seen.get(parts.prefix);
      const nowMs = clock.nowMs();
      const verdict = checkKey(stored, parts.secret, nowMs);
      if (verdict.kind === 'good') uses.set(verdict.key.id, nowMs);
      return verdict;
    },
    revoked(prefix) {
      forget(prefix);
      wire.publish(keyRevoked, { prefix });
    },
    made: (prefix) => seen.forget(prefix),
  };
}

/** Tells the store, now and then, which keys were used and when: one write for many requests. */
async function noteUses(parts: {
  store: Store;
  clock: Clock;
  uses: Map<ApiKey['id'], number>;
  signal: AbortSignal;
  onTrouble: (doing: string, error: unknown) => void;
}): Promise<void> {
  const { store, clock, uses, signal, onTrouble } = parts;
  while (!signal.aborted) {
    // The only rejection is the room's closing; the last uses are still to be noted then.
    await clock.after(USE_NOTED_EVERY_MS, signal).catch(() => undefined);
    if (uses.size === 0) continue;
    const noted = [...uses].map(([id, atMs]) => ({ id, atMs }));
    uses.clear();
    await store.keys.noteUse(noted).catch((error: unknown) => onTrouble('noting when keys were used', error));
  }
}
