import type { Expiry } from '@torpor/contracts';

/** Which of the limits ended the sandbox. */
export type ExpiryCause = 'date' | 'max age' | 'idle';

/**
 * Where a sandbox stands with its limits. `endsAtMs` is when the nearest one is met if nobody uses it until then, absent when it has none.
 * `atMs` is when the first one was met, which may lie long before now.
 */
export type Life =
  | { readonly kind: 'alive'; readonly endsAtMs?: number }
  | { readonly kind: 'expired'; readonly atMs: number; readonly because: ExpiryCause };

export interface Expiring {
  readonly expiry: Expiry;
  readonly createdAtMs: number;
  readonly lastUsedAtMs: number;
}

/**
 * Whether a sandbox has outlived its limits. Reckoned anew at every read, so that an answer is right to the millisecond and no sweeper
 * has to be in time.
 */
export function expiryOf(sandbox: Expiring, nowMs: number): Life {
  const nearest = limitsOf(sandbox).sort((a, b) => a.atMs - b.atMs)[0];
  if (!nearest) return { kind: 'alive' };
  if (nearest.atMs > nowMs) return { kind: 'alive', endsAtMs: nearest.atMs };
  return { kind: 'expired', ...nearest };
}

function limitsOf({ expiry, createdAtMs, lastUsedAtMs }: Expiring): { atMs: number; because: ExpiryCause }[] {
  const limits: { atMs: number; because: ExpiryCause }[] = [];
  if (expiry.atMs !== undefined) limits.push({ atMs: expiry.atMs, because: 'date' });
  if (expiry.maxAgeMs !== undefined) limits.push({ atMs: createdAtMs + expiry.maxAgeMs, because: 'max age' });
  if (expiry.idleMs !== undefined) {
    // A sandbox that was never used has been idle since it was made, whatever its row says.
    limits.push({ atMs: Math.max(createdAtMs, lastUsedAtMs) + expiry.idleMs, because: 'idle' });
  }
  return limits;
}
