import { Generation, InstanceId, NodeId, SandboxName, WorkspaceName } from '@torpor/contracts';
import { expect, it } from 'vitest';
import { details } from './details.ts';

const T = Date.UTC(2026, 0, 2, 3, 4, 5);

it('says in words and units what is known, and leaves out what is not', () => {
  const text = details(
    {
      workspace: WorkspaceName.parse('main'),
      name: SandboxName.parse('web'),
      phase: 'ready',
      state: 'paused',
      because: 'idle',
      memoryMib: 18,
      tier: 'paused',
      wakes: { paused: { lastMs: 1.8, predictedMs: 2.1, measured: 12 } },
      imageBytes: 1_572_864,
      imageAtMs: T - 60_000,
      lost: { atMs: T - 120_000, to: 'files', reason: 'its memory was lost' },
      instanceId: InstanceId.parse('i123456789abcdef'),
      generation: Generation.parse(1),
      nodeId: NodeId.parse('local'),
      image: 'blaxel/base-image:latest',
      template: 'blaxel/base-image',
      shape: { memoryMib: 4096, cpus: 2, diskMib: 512, pids: 1024 },
      labels: { team: 'a' },
      envNames: [],
      idle: { kind: 'after', idleMs: 15_000 },
      expiry: { atMs: T + 7_200_000, idleMs: 86_400_000 },
      url: 'http://x/main/sandboxes/web',
      createdAtMs: T - 300_000,
      createdBy: 'key:first',
      lastUsedAtMs: T - 20_000,
    },
    T,
  );
  const rows = Object.fromEntries(text.split('\n').map((line) => line.split(/ {2,}/)));
  expect(rows).toEqual({
    name: 'web',
    workspace: 'main',
    state: 'paused (idle)',
    tier: 'asleep in RAM',
    'wakes from RAM': 'the last took 1.8 ms; about 2.1 ms is to be expected (12 measured)',
    'wakes from disk': 'no wake measured yet',
    'images on disk': '1.5 MiB, the newest of 2026-01-02 03:03:05 UTC (60s ago)',
    lost: 'its memory was lost; found out 2026-01-02 03:02:05 UTC (2m ago)',
    'memory in use': '18 MiB',
    limits: '4 GiB memory, 2 CPUs, 512 MiB disk, 1024 processes',
    sleeps: 'after 15s without use',
    ends: '2026-01-02 05:04:05 UTC (in 2h), or after 24h without use',
    image: 'blaxel/base-image:latest',
    labels: 'team=a',
    url: 'http://x/main/sandboxes/web',
    node: 'local',
    instance: 'i123456789abcdef, generation 1',
    created: '2026-01-02 02:59:05 UTC (5m ago), by key:first',
    'last used': '2026-01-02 03:03:45 UTC (20s ago)',
  });
});
