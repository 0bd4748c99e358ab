/** `Idempotency-Key`: the same request sent again gets the same thing, not a second one. What is kept names the thing; it holds no secrets. */
import { createHash } from 'node:crypto';
import { Failure, type Clock } from '@torpor/kernel';
import type { IdempotencyShelf } from '@torpor/store';

const CLAIM_MS = 90_000;
const KEPT_MS = 24 * 3_600_000;

export async function once<Answer>(
  parts: { shelf: IdempotencyShelf; clock: Clock; key: string | undefined; request: unknown },
  read: (kept: unknown) => Answer,
  action: () => Promise<Answer>,
): Promise<Answer> {
  const { shelf, clock, key, request } = parts;
  if (key === undefined) return action();
  if (!/^[\x21-\x7e]{1,200}$/.test(key)) {
    throw new Failure('bad_request', 'Idempotency-Key takes 1 to 200 printable ASCII signs without spaces');
  }
  const nowMs = clock.nowMs();
  const requestHash = createHash('sha256').update(JSON.stringify(request)).digest('hex');
  const claim = { key, claimUntilMs: nowMs + CLAIM_MS };
  const verdict = await shelf.begin({ ...claim, requestHash, nowMs, expiresAtMs: nowMs + KEPT_MS });
  switch (verdict.kind) {
    case 'answered':
      return read(verdict.answer);
    case 'running':
      throw new Failure('conflict', 'a request with this Idempotency-Key is under way; ask again in a moment', {
        retryable: true,
        retryAfterS: 1,
      });
    case 'mismatch':
      throw new Failure('unprocessable', 'this Idempotency-Key was used for a different request; take a new one');
    case 'begun':
  }
  // A failed request may be made again; should its claim stay behind, it lapses by itself.
  const answer = await action().catch(async (error: unknown) => {
    await shelf.abandon(claim).catch(() => undefined);
    throw error;
  });
  await shelf.finish(claim, answer);
  return answer;
}
