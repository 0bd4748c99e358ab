import { heartbeat, InstanceReport } from '@torpor/contracts';
import { expect, it } from 'vitest';
import { packRequest } from './envelope.ts';
import { PAYLOAD_BYTES_MAX, requestText } from './payload.ts';

it('a request that the bus cannot carry is refused at once, for good, and in words', () => {
  const text = requestText({ body: 'é' }, 'a.b.v1', 13);
  expect(Buffer.byteLength(text)).toBe(13);
  expect(() => requestText({ body: 'é' }, 'a.b.v1', 12)).toThrow(
    expect.objectContaining({
      code: 'too_large',
      retryable: false,
      message: expect.stringContaining('a.b.v1 takes 13 bytes, and the bus carries at most 12'),
    }),
  );
});

it('a node with every slot taken can still tell what it holds', () => {
  const woke = { lastMs: 1_000.5, predictedMs: 1_000.5, measured: 20 };
  const report = InstanceReport.parse({
    instanceId: 'i'.repeat(12),
    generation: 1_000,
    workspace: 'w'.repeat(30),
    name: 'n'.repeat(40),
    state: 'running',
    isolation: 'gvisor',
    lastUsedAtMs: 1_800_000_000_000,
    because: 'keep-alive process',
    idle: { kind: 'after', idleMs: 15_000 },
    reason: 'r'.repeat(120),
    hostId: 'h'.repeat(12),
    tier: 'stored',
    wakeMs: 1_000.5,
    storeMs: 1_000.5,
    wakes: { paused: woke, stored: woke, files: woke },
    imageBytes: 1_000_000_000,
    imageAtMs: 1_800_000_000_000,
    lost: { atMs: 1_800_000_000_000, to: 'image', reason: 'r'.repeat(120) },
  });
  const beat = heartbeat.request.parse({
    nodeId: 'n1',
    url: 'http://127.0.0.1:1',
    isolation: 'gvisor',
    templates: [],
    capacity: { memoryMib: 1, memoryFreeMib: 1, diskFreeMib: 1, slotsFree: 0 },
    pool: [],
    instances: Array.from({ length: 16_384 }, () => report),
  });
  const envelope = packRequest(heartbeat, beat, { traceparent: undefined, leftMs: 5_000 });
  expect(() => requestText(envelope, heartbeat.subject, PAYLOAD_BYTES_MAX)).not.toThrow();
});
