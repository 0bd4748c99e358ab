import { describe, expect, it } from 'vitest';
import { idleVerdict, previewCounts, type UseFacts } from './idle.ts';

const quiet: UseFacts = {
  policy: { kind: 'after', idleMs: 15_000 },
  nowMs: 100_000,
  lastUseMs: 80_000,
  openRequests: 0,
  openStreams: 0,
  keepAlive: undefined,
  lastPreviewMs: undefined,
};

describe('when an instance may fall asleep', () => {
  const rows: [string, Partial<UseFacts>, ReturnType<typeof idleVerdict>][] = [
    ['long unused', {}, { kind: 'sleep' }],
    ['exactly at its instant', { nowMs: 95_000 }, { kind: 'sleep' }],
    ['a moment before', { nowMs: 94_999 }, { kind: 'wait', untilMs: 95_000, because: 'request' }],
    ['a request in flight', { openRequests: 1 }, { kind: 'held', because: 'request' }],
    ['a log that somebody follows', { openStreams: 1 }, { kind: 'held', because: 'stream' }],
    ['a keep-alive process', { keepAlive: 1 }, { kind: 'held', because: 'keep-alive process' }],
    ['keep-alive processes all ended', { keepAlive: 0 }, { kind: 'sleep' }],
    ['a policy of never', { policy: { kind: 'never' } }, { kind: 'held', because: 'policy never' }],
    ['preview bytes just now', { lastPreviewMs: 99_000 }, { kind: 'wait', untilMs: 114_000, because: 'preview' }],
    ['a preview silent for long', { lastPreviewMs: 81_000 }, { kind: 'sleep' }],
    ['sleep at once', { policy: { kind: 'after', idleMs: 0 }, lastUseMs: 100_000 }, { kind: 'sleep' }],
  ];
  it.each(rows)('%s', (_, facts, verdict) => {
    expect(idleVerdict({ ...quiet, ...facts })).toEqual(verdict);
  });
});

it("does not take a forgotten tab's pongs for use", () => {
  expect(previewCounts({ fromClient: 6, fromInstance: 2 })).toBe(false);
  expect(previewCounts({ fromClient: 200, fromInstance: 0 })).toBe(true);
  expect(previewCounts({ fromClient: 0, fromInstance: 4096 })).toBe(true);
});
