import { describe, expect, it } from 'vitest';
import { T, type Stage } from './stage.ts';

export function describeIdempotency(stage: Stage): void {
  const { fresh } = stage;

  describe('idempotency', () => {
    const ask = { key: 'k', requestHash: 'h', nowMs: T, claimUntilMs: T + 10, expiresAtMs: T + 100 };

    it('lets one of many through, and gives the others its answer afterwards', async () => {
      const shelf = fresh().idempotency;
      const kinds = (await Promise.all(Array.from({ length: 8 }, () => shelf.begin(ask)))).map((answer) => answer.kind);
      expect(kinds.sort()).toEqual(['begun', ...Array.from({ length: 7 }, () => 'running')]);
      await shelf.finish(ask, { status: 200, body: [null] });
      expect(await shelf.begin(ask)).toEqual({ kind: 'answered', answer: { status: 200, body: [null] } });
      expect(await shelf.begin({ ...ask, requestHash: 'other' })).toEqual({ kind: 'mismatch' });
      expect(await shelf.begin({ ...ask, nowMs: T + 100 })).toEqual({ kind: 'begun' });
    });

    it('frees a key that was abandoned or whose holder died', async () => {
      const shelf = fresh().idempotency;
      await shelf.begin(ask);
      await shelf.abandon(ask);
      expect(await shelf.begin(ask)).toEqual({ kind: 'begun' });
      expect(await shelf.begin({ ...ask, nowMs: T + 9 })).toEqual({ kind: 'running' });
      expect(await shelf.begin({ ...ask, nowMs: T + 10, claimUntilMs: T + 20 })).toEqual({ kind: 'begun' });
    });

    it('is neither finished nor freed by one whose claim has passed to another', async () => {
      const shelf = fresh().idempotency;
      const next = { ...ask, nowMs: T + 10, claimUntilMs: T + 20 };
      await shelf.begin(ask);
      expect(await shelf.begin(next)).toEqual({ kind: 'begun' });
      await shelf.abandon(ask);
      await shelf.finish(ask, 'late');
      expect(await shelf.begin(next)).toEqual({ kind: 'running' });
      await shelf.finish(next, 'in time');
      await shelf.finish(ask, 'late');
      expect(await shelf.begin(next)).toEqual({ kind: 'answered', answer: 'in time' });
    });

    it('is each tenant’s own', async () => {
      await fresh().idempotency.begin(ask);
      expect(await fresh().idempotency.begin(ask)).toEqual({ kind: 'begun' });
    });
  });
}
